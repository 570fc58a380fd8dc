/*! What the user should know of a proposal: data, and the sentences made of it. */

use crate::data::PictureSize;
use std::fmt;

/// A remark on a proposal.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Remark {
    /// The network leaves its input's size open, or is built to any.
    SizeChosen {
        height: usize,
        width: usize,
        pictures: Option<PictureSize>,
    },
    /// The data has fewer classes than the network has outputs.
    FewerClasses { data: usize, network: usize },
    /// Which output each class is was found from the network's answers; `as_is` are the images right
    /// as the labels stand, where the classes might be the outputs.
    Mapped {
        classes: usize,
        right: usize,
        as_is: Option<usize>,
        images: usize,
    },
    /// Too few images to tell which output each class is: `fitted` of them are right in the order that was
    /// found from them.
    FewToMatch {
        classes: usize,
        fitted: usize,
        images: usize,
    },
    /// The preprocessings were tried on training images, since few tune.
    TriedOnTraining { images: usize, tune: usize },
    /// Which output each class is was told by the names that the network's file gives its outputs.
    Named { data: usize, network: usize },
    /// The network's file ends in something else than a score per class.
    Ending(String),
    /// The network's own classifier can't be replicated.
    NoReplica { why: String },
    /// The network's file brings trained exits along, as these outputs.
    OwnExits { exits: Vec<String> },
    /// No split may stand anywhere.
    NoSplit { why: String },
    /// The network is built in and untrained.
    Untrained,
    /// The thresholds are tuned on few images: half the width of the 95 % interval of an accuracy,
    /// in points.
    FewToTune { images: usize, points: f64 },
    /// No preprocessing makes the network better than guessing; shares are 0 to 1.
    Guessing {
        accuracy: f64,
        chance: f64,
        images: usize,
        taken: String,
    },
    /// Something the data set's loader says.
    Data(String),
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remark::SizeChosen {
                height,
                width,
                pictures,
            } => size_chosen(f, [*height, *width], *pictures),
            Remark::FewerClasses { data, network } => write!(
                f,
                "the data has {data} classes, the network {network} outputs: which output each class is \
                 was found from the network's answers"
            ),
            Remark::Mapped {
                classes,
                right,
                as_is,
                images,
            } => mapped(f, *classes, (*right, *images), *as_is),
            Remark::FewToMatch {
                classes,
                fitted,
                images,
            } => write!(
                f,
                "WARNING: {images} images are too few to tell which output each of the {classes} classes is. \
                 The assignment that fits them best makes {fitted} of {images} right, and is written as \
                 `classes` in the session: check each class, or give more labelled images"
            ),
            Remark::TriedOnTraining { images, tune } => write!(
                f,
                "tried on {images} of the training images, because only {tune} of the test images tune: a \
                 network that learned from these images does better on them than on others"
            ),
            Remark::Named { data, network } => write!(
                f,
                "which of the network's {network} outputs each of the {data} classes is was told by their \
                 names, which the network's file holds; the session lists them as `classes`"
            ),
            Remark::Ending(what) => write!(f, "{what}"),
            Remark::NoReplica { why } => write!(
                f,
                "the network's own classifier has no form that exits can copy ({why}); exits are a pooling \
                 and a linear layer instead"
            ),
            Remark::OwnExits { exits } => write!(
                f,
                "the network's file brings {} trained exits along ({}): they are taken as they are \
                 (`classifier: OwnExits`); `Replica` trains new ones at every exit point instead",
                exits.len(),
                exits.join(", ")
            ),
            Remark::NoSplit { why } => write!(
                f,
                "the network can be split nowhere ({why}); a run compares it on the edge and in the cloud \
                 as a whole"
            ),
            Remark::Untrained => write!(
                f,
                "the network is built in and untrained: the run trains it first, which takes long and needs \
                 many images"
            ),
            Remark::FewToTune { images, points } => write!(
                f,
                "only {images} images to tune thresholds: accuracies on them are uncertain by {points:.0} \
                 points either way; more labelled test images help"
            ),
            Remark::Guessing {
                accuracy,
                chance,
                images,
                taken,
            } => guessing(f, (*accuracy, *chance), *images, taken),
            Remark::Data(text) => write!(f, "{text}"),
        }
    }
}

/// `right` of `images` in the order that was found, and `as_is` as the labels stand.
fn mapped(
    f: &mut fmt::Formatter<'_>,
    classes: usize,
    (right, images): (usize, usize),
    as_is: Option<usize>,
) -> fmt::Result {
    match as_is {
        Some(as_is) => write!(
            f,
            "the classes are likely in another order than the network's outputs: {as_is} of {images} images \
             are right as the labels stand, {right} in the order that fits (each image judged by the \
             others). That order is written as `classes` in the session: check it"
        ),
        None => write!(
            f,
            "which output each of the {classes} classes is was found from the network's answers: {right} of \
             {images} images are right so, each judged by the others. Check the list `classes` in the session"
        ),
    }
}

fn guessing(
    f: &mut fmt::Formatter<'_>,
    (accuracy, chance): (f64, f64),
    images: usize,
    taken: &str,
) -> fmt::Result {
    write!(
        f,
        "WARNING: no usual preprocessing makes the network much better than guessing ({:.1} % of {images} \
         images right at best, guessing gives {:.1} %). Likely the labels are wrong, it is a network for other \
         images, or it needs a preprocessing of its own. \"{taken}\" is written; no figure means anything \
         until that is settled",
        100.0 * accuracy,
        100.0 * chance
    )
}

fn size_chosen(
    f: &mut fmt::Formatter<'_>,
    [height, width]: [usize; 2],
    pictures: Option<PictureSize>,
) -> fmt::Result {
    write!(
        f,
        "the network takes images of any size: {height} by {width} pixels are taken"
    )?;
    match pictures {
        Some(p) if p.same && (p.height, p.width) == (height, width) => {
            write!(f, ", the size of your images")?;
        }
        Some(p) => {
            let about = if p.same { "" } else { "about " };
            write!(f, " (your images have {about}{} by {})", p.height, p.width)?;
        }
        None => {}
    }
    write!(f, "; --input 3x{height}x{width} sets another")
}
