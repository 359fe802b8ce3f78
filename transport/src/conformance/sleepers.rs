//! Rule 7 of [`crate::link`], held to a bare link: whoever sleeps on it is told of whatever comes, by a poller that tells each
//! change once.

#![allow(missing_docs)]

use std::time::{Duration, Instant};

use super::bare::{End, ends};
use super::{Harness, PATIENCE};
use crate::lane::Lane;
use crate::random::Random;

/// Each with a sleep of either end: enough of them that what is left behind of each comes to show.
const ROUNDS: u64 = 3_000;

/// Either end is told what its poller tells, or is not.
const TOLD: [[bool; 2]; 4] = [[false; 2], [true; 2], [false, true], [true, false]];

/// How an end is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// It sleeps whenever there is nothing, has a turn when it is told of something, and sleeps again.
    Orderly,
    /// It also has turns that nobody asks for, hands out a little at a time, and arms its link when it likes.
    Erratic,
}

pub fn whoever_sleeps_on_a_link_is_told_of_whatever_comes(harness: &dyn Harness) {
    for (habit, is_told) in [Habit::Orderly, Habit::Erratic]
        .into_iter()
        .flat_map(|habit| TOLD.map(|is_told| (habit, is_told)))
    {
        let mut ends = ends(harness, is_told);
        let mut random = Random::new(7);
        for round in 0..ROUNDS {
            for end in &mut ends {
                lie_down(end, habit, &mut random);
            }
            say_something(&mut ends[random.below(2) as usize], &mut random);
            if random.below(8) == 0 {
                say_something(&mut ends[random.below(2) as usize], &mut random);
            }
            let when = || format!("round {round}, {habit:?}, told: {is_told:?}");
            settle(&mut ends, habit, &mut random, when);
        }
    }
}

pub fn whoever_sleeps_on_a_link_is_told_of_its_end(harness: &dyn Harness) {
    for seed in 0..60 {
        let [mut one, mut other] = ends(harness, TOLD[seed as usize % TOLD.len()]);
        let mut random = Random::new(seed);
        for _ in 0..random.below(6) {
            say_something(&mut other, &mut random);
            lie_down(&mut one, Habit::Erratic, &mut random);
        }
        if random.below(2) == 0 {
            say_something(&mut other, &mut random);
        }
        drop(other);
        let until = Instant::now() + PATIENCE;
        while one.turn(usize::MAX, false).is_ok() && one.arm().is_ok() {
            while !one.wakes(Duration::from_millis(10)) {
                assert!(
                    Instant::now() < until,
                    "slept through the end of the link, seed {seed}"
                );
            }
        }
    }
}

/// Leaves an end asleep; or, where it is erratic, awake, or in between.
fn lie_down(end: &mut End, habit: Habit, random: &mut Random) {
    if habit == Habit::Orderly {
        while end.wakes(Duration::ZERO) {
            end.turn(usize::MAX, false).expect("a live link");
            end.arm().expect("a live link");
        }
        return;
    }
    for _ in 0..random.below(4) {
        match random.below(4) {
            0 => end.turn(usize::MAX, random.below(4) == 0).expect("a live link"),
            // Twice in a row, perhaps.
            1 => drop(end.arm().expect("a live link")),
            _ => {
                end.turn(usize::MAX, false).expect("a live link");
                end.arm().expect("a live link");
            }
        }
    }
}

fn say_something(end: &mut End, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let lane = Lane::ALL[random.below(3) as usize];
        let longest = end.send.ring(lane).max_body() as u64;
        end.say(lane, (random.below(longest) >> random.below(12)) as usize);
    }
}

/// Lets both ends do what they are woken for, until each knows all that the other has said.
fn settle(ends: &mut [End; 2], habit: Habit, random: &mut Random, when: impl Fn() -> String) {
    let until = Instant::now() + PATIENCE;
    while !(ends[0].knows_all_of(&ends[1]) && ends[1].knows_all_of(&ends[0])) {
        let mut any = false;
        for end in ends.iter_mut() {
            if !end.wakes(Duration::ZERO) {
                continue;
            }
            any = true;
            let mut now_and_then = || habit == Habit::Erratic && random.below(4) == 0;
            // Without a turn before them, or between them: what has come keeps it awake each time.
            while now_and_then() {
                end.arm().expect("a live link");
            }
            if !end.wakes(Duration::ZERO) {
                continue;
            }
            let limit = if now_and_then() { 1 } else { usize::MAX };
            end.turn(limit, now_and_then()).expect("a live link");
            if !now_and_then() {
                end.arm().expect("a live link");
            }
        }
        if !any {
            // Either may be the one that is told.
            ends[random.below(2) as usize].wakes(Duration::from_millis(1));
            assert!(Instant::now() < until, "slept through what was said: {}", when());
        }
    }
}
