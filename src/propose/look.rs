/*! What a network takes and a data set holds, and whether they fit. */

use super::{Progress, ProposeError, Remark, Step};
use crate::data::{Layout, Opened, PictureSize, Source, Survey};
use crate::engine::Cancel;
use crate::exits::{self, Classifier};
use crate::model::onnx::ImportError;
use crate::run::{ExitSource, Network, Refused, RunError};
use crate::session::{ModelError, ModelSource};
use std::collections::{BTreeSet, HashMap};

/// Pictures whose size is looked at.
const LOOKS: usize = 64;
/// Side of the pictures most networks of any size were trained on.
const COMMON_SIDE: usize = 224;
/// Classes of a network built in, at least.
const LEAST_CLASSES: usize = 2;
/// Exits where the network's own classifier can't be copied.
const PLAIN_EXIT: &str = "[GlobalAvgPool, Linear(classes)]";

/// A network and a data set, looked at.
#[derive(Debug)]
pub struct Look {
    /// The network as the session is to name it: what it left open is filled in.
    pub model: ModelSource,
    /// Where the images come from.
    pub data: Source,
    /// Network as read from its file or built.
    pub network: Network,
    /// What the data set holds.
    pub survey: Survey,
    /// Channels, height and width of the network's input.
    pub input: [usize; 3],
    /// Order of the axes of that input.
    pub layout: Layout,
    /// What exits are made of.
    pub classifier: Classifier,
    /// The output of each class, by its label, where the file names its outputs and all the classes are
    /// among them.
    pub by_name: Option<Vec<usize>>,
    /// Seed of what is drawn.
    pub seed: u64,
    /// What the user should know.
    pub remarks: Vec<Remark>,
    pub(super) opened: Opened,
}

impl Look {
    /// Whether the network's weights are learnt: else there is nothing to try.
    pub fn is_trained(&self) -> bool {
        !self.network.untrained
    }

    /// Whether pictures have to be resized for the network.
    pub fn resizes(&self) -> bool {
        let [_, height, width] = self.input;
        let other = |size: &[usize; 3]| size[1..] != [height, width];
        self.survey.sizes.iter().any(other)
    }
}

/// Reads the network and lists the data set. `input` (channels, height, width) is for a network that
/// leaves its size open, or is built to any.
///
/// # Errors
/// Either can't be read, or they don't fit.
pub fn look(
    model: ModelSource,
    data: Source,
    input: Option<[usize; 3]>,
    seed: u64,
    on: &mut dyn FnMut(Progress),
    cancel: &Cancel,
) -> Result<Look, ProposeError> {
    let mut at = |step| {
        on(Progress {
            step,
            done: 0,
            total: 0,
        });
        match cancel.is_cancelled() {
            true => Err(RunError::Stopped),
            false => Ok(()),
        }
    };
    at(Step::Survey)?;
    let mut opened = Opened::open(&data, None, seed)?;
    let mut survey = opened.survey(LOOKS)?;
    let mut remarks = Vec::new();
    at(Step::Network)?;
    let (model, network) = load(model, input, &survey, seed, &mut remarks)?;
    let classes = network.table.classes;
    if survey.class_names.len() != classes {
        // Labels in a table may be fewer than they are numbered.
        at(Step::Survey)?;
        opened = Opened::open(&data, Some(classes), seed)?;
        survey = opened.survey(LOOKS)?;
    }
    let by_name = matched(&survey, &network, &mut remarks)?;
    remarks.extend(survey.notes.iter().cloned().map(Remark::Data));
    let (input, layout) = image(&network)?;
    remarks.extend(network.fused.ending.clone().map(Remark::Ending));
    let own = ExitSource::own(&network.fused);
    let classifier = match (own, exits::replica(&network.fused)) {
        (Ok(own), _) => {
            let exits = own.own_outputs(&network.fused);
            remarks.push(Remark::OwnExits { exits });
            Classifier::OwnExits
        }
        (_, Ok(_)) => Classifier::Replica,
        (_, Err(error)) => {
            let first = error.diagnostics.first();
            let why = first.map_or_else(String::new, |d| d.message.clone());
            remarks.push(Remark::NoReplica { why });
            Classifier::Template(PLAIN_EXIT.to_string())
        }
    };
    if let Some(why) = network.table.why_no_split() {
        let why = why.to_string();
        remarks.push(Remark::NoSplit { why });
    }
    if network.untrained {
        remarks.push(Remark::Untrained);
    }
    Ok(Look {
        model,
        data,
        network,
        survey,
        input,
        layout,
        classifier,
        by_name,
        seed,
        remarks,
        opened,
    })
}

/// The output of each class by its name, if the names tell; says what is known of the classes.
fn matched(
    survey: &Survey,
    network: &Network,
    remarks: &mut Vec<Remark>,
) -> Result<Option<Vec<usize>>, ProposeError> {
    let classes = network.table.classes;
    let found = survey.class_names.len();
    if found > classes {
        return Err(ProposeError::MoreClasses {
            data: found,
            network: classes,
        });
    }
    if survey.tests() < 2 {
        let images = survey.tests();
        return Err(ProposeError::TooFewImages { images });
    }
    let by_name = by_name(&survey.class_names, &network.fused.class_names, classes);
    if by_name
        .as_ref()
        .is_some_and(|order| !order.iter().copied().eq(0..classes))
    {
        remarks.push(Remark::Named {
            data: found,
            network: classes,
        });
    } else if found < classes {
        remarks.push(Remark::FewerClasses {
            data: found,
            network: classes,
        });
    }
    Ok(by_name)
}

/// The output of each class of the data by the names that the network's file gives its outputs; `None`
/// where a class is not among them, or two are the same. Words are compared, not how they are joined:
/// `sea_lion` is `Sea lion`, and the first of several names for one class (`tench, Tinca tinca`) will do.
fn by_name(classes: &[String], outputs: &[String], count: usize) -> Option<Vec<usize>> {
    if outputs.len() != count {
        return None;
    }
    let plain = |name: &str| name.to_lowercase().replace(['_', '-'], " ");
    let mut places: HashMap<String, Option<usize>> = HashMap::new();
    for (at, name) in outputs.iter().enumerate() {
        let whole = plain(name);
        let first = whole.split(',').next().unwrap_or_default().to_string();
        for known in BTreeSet::from([whole, first]) {
            // A name of two outputs tells neither.
            let place = places.entry(known).or_insert(Some(at));
            *place = place.filter(|&earlier| earlier == at);
        }
    }
    let found = classes.iter().map(|class| *places.get(&plain(class))?);
    let found: Vec<usize> = found.collect::<Option<_>>()?;
    let differ: BTreeSet<&usize> = found.iter().collect();
    (differ.len() == found.len()).then_some(found)
}

/// The input as channels, height, width, and how the network orders them.
fn image(network: &Network) -> Result<([usize; 3], Layout), ProposeError> {
    let sample = network.table.input.sample();
    let (name, shape) = (&network.table.network, &network.table.input);
    let layout = sample.as_deref().and_then(Layout::of);
    match (sample.as_deref(), layout) {
        (Some(&[c, h, w]), Some(Layout::Nchw)) | (Some(&[h, w, c]), Some(Layout::Nhwc)) => {
            Ok(([c, h, w], layout.unwrap_or_default()))
        }
        (Some(&[c, _, _]), None) => Err(ProposeError::Channels(name.clone(), c)),
        _ => Err(RunError::from(Refused::NoImages {
            network: name.clone(),
            input: shape.to_string(),
        })
        .into()),
    }
}

fn load(
    model: ModelSource,
    input: Option<[usize; 3]>,
    survey: &Survey,
    seed: u64,
    remarks: &mut Vec<Remark>,
) -> Result<(ModelSource, Network), ProposeError> {
    let pictures = survey.size();
    let model = match model {
        ModelSource::Zoo { network, width, .. } => {
            let (channels, height, side) = network.model().paper_input();
            let [c, h, w] = input.unwrap_or_else(|| {
                let (h, w) = built_size(pictures, (height, side));
                remarks.push(Remark::SizeChosen {
                    height: h,
                    width: w,
                    pictures,
                });
                [channels, h, w]
            });
            ModelSource::Zoo {
                network,
                input: (c, h, w),
                classes: survey.class_names.len().max(LEAST_CLASSES),
                width,
            }
        }
        other => other,
    };
    let untrained = matches!(model, ModelSource::Zoo { .. });
    match model.load(seed) {
        Ok(graph) => Ok((model, Network::of(graph, untrained)?)),
        Err(ModelError::Import(ImportError::OpenInput { dims, .. })) if input.is_none() => {
            let [channels, height, width] = open_size(&dims, survey);
            remarks.push(Remark::SizeChosen {
                height,
                width,
                pictures,
            });
            let model = with_input(model, (channels, height, width));
            let graph = model.load(seed)?;
            Ok((model, Network::of(graph, false)?))
        }
        Err(error) => Err(error.into()),
    }
}

fn with_input(model: ModelSource, input: (usize, usize, usize)) -> ModelSource {
    match model {
        ModelSource::Onnx(path) => ModelSource::OnnxWith {
            path,
            input: Some(input),
            classifier: None,
            fixed: Vec::new(),
        },
        ModelSource::OnnxWith {
            path,
            classifier,
            fixed,
            ..
        } => ModelSource::OnnxWith {
            path,
            input: Some(input),
            classifier,
            fixed,
        },
        built_in => built_in,
    }
}

/// Height and width for a network built in: the pictures' own where they are small, else its paper's.
fn built_size(pictures: Option<PictureSize>, paper: (usize, usize)) -> (usize, usize) {
    match pictures {
        Some(p)
            if p.same && (32..paper.0).contains(&p.height) && (32..paper.1).contains(&p.width) =>
        {
            (p.height, p.width)
        }
        _ => paper,
    }
}

/// Channels, height and width of an input that leaves some of them open: the pictures' own where they
/// have one size that isn't large, else what is most common.
fn open_size(dims: &[Option<usize>], survey: &Survey) -> [usize; 3] {
    let known = |axis: usize| dims.get(axis).copied().flatten();
    let last = matches!(known(3), Some(1 | 3)) && !matches!(known(1), Some(1 | 3));
    let (channels, height, width) = match last {
        true => (known(3), known(1), known(2)),
        false => (known(1), known(2), known(3)),
    };
    let own = survey.size().filter(|p| p.same);
    let own = own.filter(|p| p.height.max(p.width) <= COMMON_SIDE);
    let side = |own: Option<usize>| own.unwrap_or(COMMON_SIDE);
    [
        channels.unwrap_or(if survey.is_grey() { 1 } else { 3 }),
        height.unwrap_or(side(own.map(|p| p.height))),
        width.unwrap_or(side(own.map(|p| p.width))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    fn survey(sizes: &[[usize; 3]]) -> Survey {
        Survey {
            class_names: vec!["a".into(), "b".into()],
            train: vec![1, 1],
            test: vec![1, 1],
            sizes: sizes.to_vec(),
            notes: Vec::new(),
        }
    }

    #[rstest]
    #[case::small([None, Some(3), None, None], &[[3, 48, 64], [3, 48, 64]], [3, 48, 64])]
    #[case::large([None, Some(3), None, None], &[[3, 480, 640], [3, 480, 640]], [3, 224, 224])]
    #[case::mixed([None, Some(3), None, None], &[[3, 48, 64], [3, 50, 64]], [3, 224, 224])]
    #[case::half_open([None, Some(3), Some(96), None], &[[3, 48, 64]], [3, 96, 64])]
    #[case::channels_last([None, None, None, Some(3)], &[[3, 48, 64]], [3, 48, 64])]
    #[case::grey([None, None, None, None], &[[1, 28, 28]], [1, 28, 28])]
    #[case::drawn([None, Some(3), None, None], &[], [3, 224, 224])]
    fn an_open_size_is_the_pictures_or_the_common_one(
        #[case] dims: [Option<usize>; 4],
        #[case] sizes: &[[usize; 3]],
        #[case] wanted: [usize; 3],
    ) {
        assert_eq!(open_size(&dims, &survey(sizes)), wanted);
    }

    #[rstest]
    #[case::same(&["cat", "dog"], &["cat", "dog"], Some(vec![0, 1]))]
    #[case::other_order(&["cat", "dog"], &["Dog", "Cat"], Some(vec![1, 0]))]
    #[case::some(&["sea_lion", "tench"], &["tench, Tinca tinca", "ant", "Sea lion"], Some(vec![2, 0]))]
    #[case::unknown(&["cat", "cow"], &["cat", "dog"], None)]
    #[case::twice(&["cat", "dog"], &["cat", "dog", "dog, puppy"], None)]
    #[case::two_for_one(&["sea_lion", "sea lion"], &["sea lion", "ant"], None)]
    fn classes_are_found_by_the_names_of_the_outputs(
        #[case] classes: &[&str],
        #[case] outputs: &[&str],
        #[case] wanted: Option<Vec<usize>>,
    ) {
        let own = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        let found = by_name(&own(classes), &own(outputs), outputs.len());
        assert_eq!(found, wanted);
        assert_eq!(
            by_name(&own(classes), &own(outputs), outputs.len() + 1),
            None
        );
    }

    #[test]
    fn the_demo_fits_the_synthetic_images() {
        let data = Source::Synthetic { seed: 7 };
        let look = |model| look(model, data.clone(), None, 7, &mut |_| {}, &Cancel::new()).unwrap();
        let demo = look(ModelSource::Demo);
        assert_eq!((demo.input, demo.layout), ([3, 32, 32], Layout::Nchw));
        assert_eq!(demo.classifier, Classifier::Replica);
        assert!(
            demo.is_trained() && demo.remarks.is_empty(),
            "{:?}",
            demo.remarks
        );
    }
}
