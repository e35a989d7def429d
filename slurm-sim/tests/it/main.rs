//! The real binary against the contract recorded from real Slurm: real spool, real node daemons,
//! real jobs, and for the embedded cluster the system's own `ssh`.

mod accounts;
mod contract;
mod embedded;
mod jobs;
mod pattern;
mod scale;
mod signals;
mod sim;
mod states;
mod steps;
