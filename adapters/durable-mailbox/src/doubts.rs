//! Hand-overs that were cut short: asked about until somebody answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::hand_over::{Settled, settle, talk};
use crate::home::Inner;
use crate::record::Residence;
use crate::wire::Talk;

/// Looks this often whether there is a doubt, and asks this often about each.
const EVERY: Duration = Duration::from_millis(100);

pub(crate) fn run(inner: &Arc<Inner>) {
    while !inner.closed.load(Ordering::Acquire) {
        std::thread::sleep(EVERY);
        let doubts: Vec<_> = inner
            .residents()
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
                inner,
                &to,
                &Talk::Adopted {
                    name: name.clone(),
                    epoch,
                },
            );
            match settle(inner, &name, epoch, reply) {
                Ok(Ok(Settled::Kept(Some(inbox), _))) => inner.arrive(*inbox),
                Ok(Ok(Settled::Kept(None, _) | Settled::Released)) => {}
                Ok(Err(cause)) => tracing::debug!(mailbox = name, cause, "still in doubt"),
                Err(error) => tracing::error!(mailbox = name, %error, "the journal failed; still in doubt"),
            }
        }
    }
}
