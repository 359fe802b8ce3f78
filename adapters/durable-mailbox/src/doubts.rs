//! Hand-overs that were cut short: asked about until somebody answers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::home_state::HomeState;
use crate::record::Residence;
use crate::settling::{Settled, settle, talk};
use crate::wire::Talk;

/// Looks this often whether there is a doubt, and asks this often about each.
const EVERY: Duration = Duration::from_millis(100);

pub(crate) fn run(home: &HomeState) {
    while !home.closed.load(Ordering::Acquire) {
        std::thread::sleep(EVERY);
        let doubts: Vec<_> = home
            .residents
            .lock()
            .iter_mut()
            .filter_map(|(name, resident)| match &resident.known.residence {
                Residence::Offered { to, epoch } if !resident.settling => {
                    resident.settling = true;
                    Some((name.clone(), *epoch, to.clone()))
                }
                _ => None,
            })
            .collect();
        for (name, epoch, to) in doubts {
            let reply = talk(
                home,
                &to,
                &Talk::Adopted {
                    name: name.clone(),
                    epoch,
                },
            );
            match settle(home, &name, epoch, reply) {
                Ok(Ok(Settled::Kept(Some(inbox), _))) => home.arrive(*inbox),
                Ok(Ok(Settled::Kept(None, _) | Settled::Released)) => {}
                Ok(Err(cause)) => tracing::debug!(mailbox = name, cause, "still in doubt"),
                Err(error) => tracing::error!(mailbox = name, %error, "the journal failed; still in doubt"),
            }
        }
    }
}
