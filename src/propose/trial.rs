/*! The usual preprocessings, each tried on the same labelled images. */

use super::race::{Order, Race, Runner, count, fitting};
use super::settle::tuning;
use super::usual::{Usual, ranges};
use super::{Look, Progress, ProposeError, Remark, Step};
use crate::data::{Calibration, Fit, LoadOptions, LoadedData, Preprocessing, Set};
use crate::engine::Cancel;
use crate::predict::doubt::{best_order, chance, is_near_chance, other_order};
use crate::predict::interval::wilson;
use crate::train::{Samples, forward_scores};
use std::time::Instant;

/// Images of the first heat, after which the hopeless are out.
const FIRST: usize = 32;
/// Images that are tried at least, where there are so many, and at most.
const IMAGES: std::ops::RangeInclusive<usize> = 100..=400;
/// Milliseconds that the trial should take, and how many preprocessings mostly stay to its end.
const BUDGET_MS: f64 = 20_000.0;
const STAY: f64 = 4.0;

/// Share of the images that an assignment of classes to outputs has to fit, unless it may by chance.
const HALF: f64 = 0.5;

/// Ranges that are tried again on the best part of pictures.
const NEXT: usize = 3;

/// How often the network was right with one preprocessing.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// What it is called.
    pub name: String,
    /// Preprocessing that was tried.
    pub pixels: Preprocessing,
    /// Number of images that were answered right.
    pub right: usize,
    /// Images it was tried on; fewer than others' where it was soon far behind.
    pub images: usize,
    /// Whether it can't be told from the best on these images.
    pub is_tie: bool,
}

impl Tried {
    /// Share of the images that were answered right, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.images.max(1) as f64
    }

    /// Wilson's 95 % interval of that share; 0 to 1 where no image was tried.
    pub fn interval(&self) -> (f64, f64) {
        wilson(self.right, self.images).map_or((0.0, 1.0), |share| (share.low, share.high))
    }
}

/// What came of trying them.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// All that were tried, the best first.
    pub tried: Vec<Tried>,
    /// The output of each class, by name; empty where the classes are the outputs, in order.
    pub classes: Vec<(String, usize)>,
    /// Share of the commonest class, 0 to 1: what guessing gives.
    pub chance: f64,
    /// Milliseconds per image through the network, all cores busy.
    pub image_ms: f64,
    /// What the user should know.
    pub remarks: Vec<Remark>,
}

impl Trial {
    /// The best of them.
    pub fn best(&self) -> Option<&Tried> {
        self.tried.first()
    }

    /// Whether even the best is hardly better than guessing.
    pub fn is_guessing(&self) -> bool {
        let guessing = |r: &Remark| matches!(r, Remark::Guessing { .. });
        self.remarks.iter().any(guessing)
    }

    /// Whether the classes were found to be in another order than the outputs.
    pub fn is_reordered(&self) -> bool {
        let other = |r: &Remark| matches!(r, Remark::Mapped { as_is: Some(_), .. });
        self.remarks.iter().any(other)
    }
}

/// Where the images of the trial come from, and how many it may have at most: those that will tune, so
/// that the others stay unseen; where these are few and there are more to train on, the latter.
fn drawn(look: &Look) -> (Calibration, usize) {
    let tune = tuning(look.survey.tests());
    // A set keeps one image at least.
    let train = look.survey.trains().saturating_sub(1);
    match tune < *IMAGES.start() && train > tune {
        true => (Calibration::FromTrain(train), train),
        false => (Calibration::FromTest(tune), tune),
    }
}

/// Tries the usual preprocessings on `images` labelled images (as many as 20 seconds allow if absent).
/// They are drawn from those that will tune, or from the training images where those are few.
///
/// # Errors
/// A picture can't be decoded, no assignment of classes to outputs fits, or it was stopped.
pub fn trial(
    look: &Look,
    images: Option<usize>,
    on: &mut dyn FnMut(Progress),
    cancel: &Cancel,
) -> Result<Trial, ProposeError> {
    let (from, most) = drawn(look);
    if let Some(asked) = images.filter(|&n| n > most) {
        return Err(ProposeError::TooMany { asked, most });
    }
    let drawn = images.unwrap_or(*IMAGES.end()).min(most);
    let mut pictures = Pictures {
        look,
        calibration: match from {
            Calibration::FromTrain(_) => Calibration::FromTrain(drawn),
            Calibration::FromTest(_) => Calibration::FromTest(drawn),
        },
        sets: Vec::new(),
        cancel,
    };
    let mut labels = pictures
        .of(Fit::Stretch, on)?
        .labels(Set::Calibration)
        .to_vec();
    let outputs = look.network.table.classes;
    if let Some(order) = &look.by_name {
        for label in &mut labels {
            let output = order[usize::from(*label)];
            *label = u16::try_from(output).unwrap_or(u16::MAX);
        }
    }
    let mut race = Race {
        runners: ranges(look.input[0], look.layout)
            .into_iter()
            .map(Runner::new)
            .collect(),
        labels: &labels,
        outputs,
        order: match look.by_name.is_some() || look.survey.class_names.len() == outputs {
            true => Order::AsIs,
            false => Order::Found,
        },
    };
    let start = Instant::now();
    let first = FIRST.min(labels.len());
    heat(&mut race, &pictures, first, on)?;
    let image_ms = start.elapsed().as_secs_f64() * 1e3 / (first * race.runners.len()) as f64;
    let affordable = (BUDGET_MS / STAY / image_ms) as usize;
    let to = images.unwrap_or(affordable.clamp(*IMAGES.start(), *IMAGES.end()));
    let to = to.min(labels.len());
    run_to(&mut race, &pictures, to, on)?;
    if look.by_name.is_none() {
        race.doubt_order();
    }
    race.drop_behind();
    // What else is usual, of the best alone.
    let mut more = |race: &mut Race, variants: Vec<Usual>, on: &mut dyn FnMut(Progress)| {
        for variant in &variants {
            pictures.of(variant.pixels.fit, on)?;
        }
        race.runners.extend(variants.into_iter().map(Runner::new));
        run_to(race, &pictures, to, on)
    };
    if look.resizes() {
        let best = race.best().map(|at| race.runners[at].usual.fits());
        more(&mut race, best.unwrap_or_default(), on)?;
        // What was ahead on the wrong part of the pictures may not be so on the right one.
        let again = again(&race);
        more(&mut race, again, on)?;
    }
    if look.input[0] == 3 && !look.survey.is_grey() {
        let best = race
            .best()
            .map(|at| race.runners[at].usual.other_channels());
        let known = |usual: &Usual| race.runners.iter().any(|r| r.usual.pixels == usual.pixels);
        let fresh: Vec<Usual> = best.into_iter().filter(|u| !known(u)).collect();
        more(&mut race, fresh, on)?;
    }
    conclude(look, &race, image_ms)
}

/// The ranges that were next best on whole pictures, on the part of them that is best; none where that
/// is the whole.
fn again(race: &Race) -> Vec<Usual> {
    let Some(best) = race.best().map(|at| &race.runners[at].usual) else {
        return Vec::new();
    };
    let fit = best.pixels.fit;
    if fit == Fit::Stretch {
        return Vec::new();
    }
    let mut whole: Vec<&Runner> = race
        .runners
        .iter()
        .filter(|r| r.usual.pixels.fit == Fit::Stretch)
        .collect();
    let share = |r: &Runner| count(&race.right(r)) as f64 / r.answers.len().max(1) as f64;
    // Stable: of equal ones the commoner stays before the other.
    whole.sort_by(|a, b| share(b).total_cmp(&share(a)));
    let others = whole.into_iter().map(|r| r.usual.with_fit(fit));
    others
        .filter(|u| u.pixels != best.pixels)
        .take(NEXT)
        .collect()
}

/// The images of the trial, decoded once for each way they come to the network's size.
struct Pictures<'a> {
    look: &'a Look,
    calibration: Calibration,
    sets: Vec<(Fit, LoadedData)>,
    cancel: &'a Cancel,
}

impl Pictures<'_> {
    fn find(&self, fit: Fit) -> Option<&LoadedData> {
        let found = self.sets.iter().find(|(other, _)| *other == fit);
        found.map(|(_, data)| data)
    }

    fn of(&mut self, fit: Fit, on: &mut dyn FnMut(Progress)) -> Result<&LoadedData, ProposeError> {
        if self.find(fit).is_none() {
            let options = LoadOptions {
                input: self.look.input,
                fit,
                classes: None,
                outputs: Vec::new(),
                output_names: Vec::new(),
                calibration: self.calibration,
                train: Some(1),
                test: Some(1),
                seed: self.look.seed,
            };
            let mut progress = |p: crate::data::Progress| {
                on(Progress {
                    step: Step::Decode,
                    done: p.done as usize,
                    total: p.total as usize,
                });
            };
            let data = self
                .look
                .opened
                .load(&options, &mut progress, self.cancel)?;
            self.sets.push((fit, data));
        }
        self.find(fit)
            .ok_or_else(|| crate::run::RunError::Stopped.into())
    }
}

/// Some images for each runner that is to be tried on them, one after the other.
struct Heat<'a> {
    runners: Vec<(&'a LoadedData, &'a Preprocessing)>,
    from: usize,
    images: usize,
}

impl Samples for Heat<'_> {
    fn len(&self) -> usize {
        self.runners.len() * self.images
    }

    fn label(&self, index: usize) -> u16 {
        let (data, _) = self.runners[index / self.images];
        data.label(Set::Calibration, self.from + index % self.images)
    }

    fn input(&self, index: usize, out: &mut [f32]) {
        let (data, pixels) = self.runners[index / self.images];
        let image = self.from + index % self.images;
        if data.input(Set::Calibration, image, pixels, out).is_err() {
            // A preprocessing of this room has as many means as channels; numbers that are none
            // would be no answer at all.
            out.fill(f32::NAN);
        }
    }

    fn identity(&self) -> String {
        String::new()
    }
}

/// Lets everybody who isn't out catch up to `to` images, in heats that double, with the hopeless
/// taken out after each.
fn run_to(
    race: &mut Race,
    pictures: &Pictures,
    to: usize,
    on: &mut dyn FnMut(Progress),
) -> Result<(), ProposeError> {
    loop {
        let alive = race.runners.iter().filter(|r| !r.out);
        let Some(least) = alive.map(|r| r.answers.len()).min() else {
            return Ok(());
        };
        if least >= to {
            return Ok(());
        }
        heat(race, pictures, (2 * least).clamp(FIRST.min(to), to), on)?;
        race.drop_behind();
    }
}

/// Tries everybody who isn't out, and is behind the least far, on the images up to `to`.
fn heat(
    race: &mut Race,
    pictures: &Pictures,
    to: usize,
    on: &mut dyn FnMut(Progress),
) -> Result<(), ProposeError> {
    let alive = race.runners.iter().filter(|r| !r.out);
    let from = alive.map(|r| r.answers.len()).min().unwrap_or(to);
    let mut run: Vec<&mut Runner> = race
        .runners
        .iter_mut()
        .filter(|r| !r.out && r.answers.len() == from)
        .collect();
    let heat = Heat {
        runners: run
            .iter()
            .filter_map(|r| Some((pictures.find(r.usual.pixels.fit)?, &r.usual.pixels)))
            .collect(),
        from,
        images: to.saturating_sub(from),
    };
    if heat.images == 0 || heat.runners.len() != run.len() {
        return Ok(());
    }
    let (total, images) = (heat.len(), heat.images);
    let fused = &pictures.look.network.fused;
    let mut progress = |done| {
        on(Progress {
            step: Step::Try,
            done,
            total,
        });
    };
    let mut scores = forward_scores(fused, &[], &heat, pictures.cancel, &mut progress)?;
    let scores = scores.pop().unwrap_or_default();
    let classes = (scores.len() / total).max(1);
    for (runner, scores) in run.iter_mut().zip(scores.chunks(classes * images)) {
        runner.answers.extend(scores.chunks(classes).map(answer));
    }
    Ok(())
}

/// The largest score's class; none at all where a score is no number.
fn answer(scores: &[f32]) -> u16 {
    if scores.iter().any(|s| s.is_nan()) {
        return u16::MAX;
    }
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    u16::try_from(best).unwrap_or(u16::MAX)
}

fn conclude(look: &Look, race: &Race, image_ms: f64) -> Result<Trial, ProposeError> {
    let names = &look.survey.class_names;
    let best = race.choice().unwrap_or(0);
    let winner = &race.runners[best];
    let labels = &race.labels[..winner.answers.len()];
    let chance = chance(labels);
    let right = count(&race.right(winner));
    let near = is_near_chance(right, labels.len(), chance);
    let mut remarks = Vec::new();
    let found = match race.order {
        Order::Found => Some(right),
        Order::AsIs if look.by_name.is_some() => None,
        Order::AsIs => other_order(labels, &winner.answers, race.outputs, names)
            .map(|_| count(&race.right_by(Order::Found, winner))),
    };
    let is_other = |order: &&Vec<usize>| !order.iter().copied().eq(0..race.outputs);
    let mut order = look
        .by_name
        .as_ref()
        .filter(is_other)
        .cloned()
        .unwrap_or_default();
    let mut taken = best;
    if let Some(right) = found {
        let maybe_as_is = names.len() == race.outputs;
        let is_unsure = near && !maybe_as_is;
        if is_unsure {
            // Judged by themselves: by the others, few images are never right.
            taken = race.closest().unwrap_or(best);
        }
        let answers = &race.runners[taken].answers;
        let labels = &race.labels[..answers.len()];
        let order_found = best_order(labels, answers, race.outputs);
        let fitted = fitting(labels, answers, race.outputs);
        if is_unsure && wilson(fitted, labels.len()).is_some_and(|share| share.high < HALF) {
            return Err(ProposeError::NoOrder {
                data: names.len(),
                network: race.outputs,
                right: fitted,
                images: labels.len(),
                first: names.first().cloned().unwrap_or_default(),
            });
        }
        order = complete(order_found, names.len(), race.outputs);
        let (classes, images) = (names.len(), labels.len());
        remarks.push(match is_unsure {
            true => Remark::FewToMatch {
                classes,
                fitted,
                images,
            },
            false => Remark::Mapped {
                classes,
                right,
                as_is: maybe_as_is.then(|| count(&race.right_by(Order::AsIs, winner))),
                images,
            },
        });
    } else if near {
        // Who is ahead is an accident: the commonest.
        taken = 0;
        remarks.push(Remark::Guessing {
            accuracy: right as f64 / labels.len().max(1) as f64,
            chance,
            images: labels.len(),
            taken: race.runners[taken].usual.name.clone(),
        });
    }
    remarks.extend(few(look, &race.runners[taken], right));
    let named = |(class, output): (usize, usize)| (names[class].clone(), output);
    Ok(Trial {
        tried: ranked(race, taken),
        classes: order.into_iter().enumerate().map(named).collect(),
        chance,
        image_ms,
        remarks,
    })
}

/// What few images mean: for the trial, which was then on others, and for the thresholds.
fn few(look: &Look, taken: &Runner, right: usize) -> Vec<Remark> {
    let tune = tuning(look.survey.tests());
    let mut remarks = Vec::new();
    let images = taken.answers.len();
    if let (Calibration::FromTrain(_), _) = drawn(look) {
        remarks.push(Remark::TriedOnTraining { images, tune });
    }
    let share = right as f64 / images.max(1) as f64;
    let right_of_tuning = (share * tune as f64).round() as usize;
    if let Some(share) = wilson(right_of_tuning, tune).filter(|_| tune < *IMAGES.start()) {
        remarks.push(Remark::FewToTune {
            images: tune,
            points: 50.0 * (share.high - share.low),
        });
    }
    remarks
}

/// An output for each class: those found, and of those left over the class's own or the first free one.
fn complete(found: Vec<(u16, u16)>, classes: usize, outputs: usize) -> Vec<usize> {
    let mut order: Vec<Option<usize>> = vec![None; classes];
    for (class, output) in found {
        if let Some(place) = order.get_mut(usize::from(class)) {
            *place = Some(usize::from(output));
        }
    }
    for class in 0..classes {
        if order[class].is_some() {
            continue;
        }
        let is_free = |output: &usize| !order.contains(&Some(*output));
        order[class] = Some(class).filter(is_free).or((0..outputs).find(is_free));
    }
    order.into_iter().flatten().collect()
}

fn ranked(race: &Race, best: usize) -> Vec<Tried> {
    let mut tried: Vec<Tried> = race
        .runners
        .iter()
        .enumerate()
        .map(|(at, runner)| Tried {
            name: runner.usual.name.clone(),
            pixels: runner.usual.pixels.clone(),
            right: count(&race.right(runner)),
            images: runner.answers.len(),
            is_tie: at != best && race.is_tie(best, at),
        })
        .collect();
    let first = tried.remove(best);
    // Stable: of equal ones the commoner stays before the other.
    tried.sort_by(|a, b| b.accuracy().total_cmp(&a.accuracy()));
    tried.insert(0, first);
    tried
}

#[cfg(test)]
mod tests {
    use super::super::look;
    use super::*;
    use crate::data::Source;
    use crate::session::ModelSource;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_class_without_images_gets_an_output_that_is_left() {
        assert_eq!(complete(vec![(0, 1), (1, 0)], 4, 4), [1, 0, 2, 3]);
        assert_eq!(complete(vec![(0, 3), (2, 0)], 4, 4), [3, 1, 0, 2]);
        assert_eq!(complete(vec![(1, 7)], 2, 1000), [0, 7]);
    }

    #[test]
    fn scores_that_are_no_numbers_are_no_answer() {
        assert_eq!(answer(&[0.0, 2.0, 1.0]), 1);
        assert_eq!(answer(&[0.0, f32::NAN, 1.0]), u16::MAX);
    }

    /// The demo was trained on pixels from 0 to 1.
    #[test]
    fn the_demos_preprocessing_is_found() {
        let (mut none, cancel) = (|_: Progress| {}, Cancel::new());
        let data = Source::Synthetic { seed: 7 };
        let look = look(ModelSource::Demo, data, None, 7, &mut none, &cancel).unwrap();
        let found = trial(&look, Some(200), &mut none, &cancel).unwrap();
        let best = found.best().unwrap();
        assert_eq!((best.name.as_str(), best.images), ("0 to 1", 200));
        assert!(best.accuracy() > 0.85, "{best:?}");
        assert_eq!((found.classes.len(), found.remarks.len()), (0, 0));
        let far = found.tried.iter().find(|t| t.name == "0 to 255").unwrap();
        assert!(far.images < 200 && !far.is_tie, "{far:?}");
    }
}
