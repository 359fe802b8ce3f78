//! Random histories against a plain model.

use transport::lane::{LANES, Lane, LaneSizes};
use transport::link::Push;
use transport::ring::Position;

use super::{End, ROOMY, SMALL, relink};
use crate::pipe::Random;

/// A random history of both ends; returns the positions that were reached.
fn history(seed: u64, capacity: usize, cut: usize, sizes: &LaneSizes, steps: usize) -> [Position; LANES] {
    let mut random = Random::new(seed);
    let (mut one, mut other) = End::pair(seed, capacity, cut, sizes);
    for step in 0..steps {
        let (this, that) = if random.below(2) == 0 {
            (&mut one, &mut other)
        } else {
            (&mut other, &mut one)
        };
        let lane = Lane::ALL[random.below(LANES)];
        match random.below(16) {
            0..=4 => {
                // Long bodies through a narrow stream take for ever and show nothing new.
                let most = this.send.ring(lane).max_body().min(cut.saturating_mul(50));
                let len = if random.below(4) == 0 {
                    random.below(most + 1)
                } else {
                    random.below(100)
                };
                let mut body = random.next().to_le_bytes().repeat(len / 8 + 1);
                body.truncate(len);
                this.commit_for(that, lane, body);
            }
            5..=8 => {
                this.push();
            }
            9..=12 => {
                this.poll();
            }
            13..=14 => while this.consume(lane) && random.below(4) > 0 {},
            _ => this.acknowledge(lane),
        }
        if random.below(5_000) == 0 {
            relink(
                &mut one,
                &mut other,
                seed.wrapping_add(step as u64),
                capacity,
                cut,
            );
        }
    }
    // Everything arrives, everything is acknowledged, and then there is silence.
    let mut quiet = 0;
    while quiet < 200 {
        let mut changed = false;
        for end in [&mut one, &mut other] {
            changed |= end.push() == Push::Blocked;
            changed |= end.poll();
            for lane in Lane::ALL {
                while end.consume(lane) {
                    changed = true;
                }
                end.acknowledge(lane);
            }
        }
        quiet = if changed { 0 } else { quiet + 1 };
    }
    for end in [&one, &other] {
        for lane in Lane::ALL {
            assert!(end.expected[lane.index()].is_empty());
            assert_eq!(end.send.ring(lane).released(), end.send.ring(lane).claimed());
        }
    }
    one.consumed()
}

#[test]
fn bytes_appear_at_the_same_positions_however_the_stream_is_cut_and_the_link_is_lost() {
    for (cut, capacity, steps) in [
        (1, 64, 10_000),
        (3, 10, 10_000),
        (17, 1_000, 20_000),
        (100, 4_096, 30_000),
        (5_000, 100_000, 30_000),
        (100_000, 1 << 20, 30_000),
        (usize::MAX, 1 << 20, 30_000),
        (usize::MAX, 500, 30_000),
    ] {
        let mut laps = 0;
        for seed in 1..5 {
            let positions = history(seed ^ cut as u64, capacity, cut, &SMALL, steps);
            laps += positions[Lane::Ordinary.index()] / u64::from(SMALL.ordinary);
        }
        if cut >= 5_000 {
            assert!(laps > 20, "cut {cut}: {laps} laps");
        }
    }
}

#[test]
fn spans_longer_than_the_buffer_and_than_the_limit_of_a_span_arrive_whole() {
    for seed in 0..4 {
        for cut in [1_000, 50_000, 300_000, usize::MAX] {
            history(seed, 400_000, cut, &ROOMY, 2_000);
        }
    }
}
