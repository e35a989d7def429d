//! How many times less hpc-proxy must cost than another proxy, in processor time for each unit of work
//! (issue 8).

use crate::{load::Load, rival::Rival};

/// The least ratio, where one is asked for.
pub fn least(load: Load, rival: &Rival) -> Option<f64> {
    use Rival::{
        HaProxy, Nginx, NginxLarge, NginxRewriting, NginxVar, Original, OriginalRewriting,
    };
    let ratio = match (load, rival) {
        (Load::Kept(1), Nginx) => 1.1,
        (Load::Kept(1), HaProxy) => 1.3,
        (Load::Kept(_), Nginx | HaProxy) => 1.2,
        (Load::Kept(_), NginxVar) => 3.0,
        (Load::Kept(_), Original(_)) => 8.0,
        (Load::Tens(_), Nginx | HaProxy) => 1.1,
        (Load::New(_), Nginx | HaProxy) => 1.1,
        (Load::New(_), NginxVar) => 1.8,
        (Load::New(_), Original(_)) => 4.5,
        (Load::Down(_) | Load::Up(_), Nginx) => 1.3,
        (Load::Down(_), HaProxy) => 0.8,
        (Load::Up(_), HaProxy) => 0.95,
        (Load::Echo(_), Nginx) => 1.0,
        (Load::Echo(_), HaProxy) => 1.3,
        (Load::LongEcho(_), NginxLarge) => 1.7,
        (Load::LongEcho(_), HaProxy) => 1.0,
        (Load::Rewritten(_), NginxRewriting) => 3.0,
        (Load::Rewritten(_), OriginalRewriting(_)) => 50.0,
        _ => return None,
    };
    Some(ratio)
}
