//! What the one who runs a cluster has its Slurm do, as the mock is told and as the real one is.

/// Which Slurm a cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// `slurm-sim`.
    Mock,
    /// Slurm itself.
    Slurm,
}

/// An order to it.
#[derive(Clone, Copy, Debug)]
pub enum Order<'a> {
    /// The controller goes down for maintenance: commands find nobody, jobs go on.
    ControllerDown,
    /// It comes up with all that it knew.
    ControllerUp,
    /// The node gets no more jobs; those that it has go on.
    Drain(&'a str),
    /// The node, which is lost, is given up; by itself Slurm takes minutes for it.
    GiveUp(&'a str),
    /// The node is back, and gets jobs again.
    TakeBack(&'a str),
    /// From now on a requeued job waits for seconds; by itself the mock has it wait for two minutes.
    RequeueSoon,
}

/// slurmctld(8) saves its state on a SIGTERM.
const CONTROLLER_DOWN: &str =
    "pkill -x slurmctld; while pgrep -x slurmctld >/dev/null; do sleep 0.05; done";

const CONTROLLER_UP: &str =
    "slurmctld && until scontrol ping | grep -q 'is UP'; do sleep 0.05; done";

impl Scheduler {
    /// The order as a line of shell on the login node.
    pub(super) fn line(self, order: Order<'_>) -> String {
        match self {
            Scheduler::Mock => format!("slurm-sim control {}", turn(order)),
            Scheduler::Slurm => match order {
                Order::ControllerDown => CONTROLLER_DOWN.to_owned(),
                Order::ControllerUp => CONTROLLER_UP.to_owned(),
                Order::Drain(node) => set_state(node, "DRAIN"),
                Order::GiveUp(node) => set_state(node, "DOWN"),
                // It does so by itself when its slurmd comes up (`ReturnToService`, slurm.conf(5)).
                Order::TakeBack(node) => format!(
                    "until sinfo -h -N -n {node} -o %t | grep -qxE 'idle|mix|alloc'; do sleep 0.1; done"
                ),
                // `AuthInfo` of its slurm.conf(5) sees to that.
                Order::RequeueSoon => "true".to_owned(),
            },
        }
    }
}

/// Which of the mock's knobs is turned. It gives up whatever node is silent.
fn turn(order: Order<'_>) -> String {
    match order {
        Order::ControllerDown => "controller down".to_owned(),
        Order::ControllerUp => "controller up".to_owned(),
        Order::Drain(node) => format!("drain {node}"),
        Order::GiveUp(_) => "node-timeout 2".to_owned(),
        Order::TakeBack(_) => "node-timeout 30".to_owned(),
        Order::RequeueSoon => "requeue-delay 1".to_owned(),
    }
}

fn set_state(node: &str, state: &str) -> String {
    format!("scontrol update NodeName={node} State={state} Reason=story")
}
