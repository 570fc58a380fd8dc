/*!
From a network and labelled images to a session: what they are, which size and preprocessing fit them,
which class is which output, and how many images should tune. What can be tried is tried on the images;
the rest is proposed by rule and said. Asks nothing and prints nothing: the commands do.

| file       | what it is                                                          |
|------------|---------------------------------------------------------------------|
| `look`     | what the network takes, what the data set holds, whether they fit   |
| `usual`    | the preprocessings that networks are usually trained with           |
| `trial`    | each of them tried on the same labelled images                      |
| `race`     | who is ahead on these images, and who is out                        |
| `settle`   | the session that comes of it, and its commented text                |
*/

mod look;
mod race;
mod remark;
mod settle;
mod trial;
mod usual;

pub use look::{Look, look};
pub use remark::Remark;
pub use settle::{Wishes, path_from, settle, text};
pub use trial::{Trial, Tried, trial};

use crate::run::RunError;

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Step that is under way.
    pub step: Step,
    /// Images that are done, of `total`.
    pub done: usize,
    /// What there is to do, as far as is known now.
    pub total: usize,
}

/// The steps that take long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The network is read and its layers are listed.
    Network,
    /// The data set is listed.
    Survey,
    /// Pictures are read from their files and decoded.
    Decode,
    /// Preprocessings are tried on the labelled images.
    Try,
}

/// Why there is no session to propose.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum ProposeError {
    #[error(
        "the data has {data} classes, the network {network} outputs: give a network with an output for \
         each class, or a folder of fewer classes"
    )]
    MoreClasses { data: usize, network: usize },
    #[error(
        "the data has {data} classes, the network {network} outputs, and no assignment of the classes to \
         outputs fits: the best makes {right} of {images} images right. It is likely a network for other \
         classes; if not, say which output each class is by hand, in a session with \
         `classes: [(\"{first}\", 0), ..]`"
    )]
    NoOrder {
        data: usize,
        network: usize,
        right: usize,
        images: usize,
        first: String,
    },
    #[error(
        "{images} images to test; 2 are needed at least, one to tune thresholds and one to test. Add \
         labelled images"
    )]
    TooFewImages { images: usize },
    #[error("`{0}` has an input of {1} channels; images have 1 or 3")]
    Channels(String, usize),
    #[error("--images: {asked} images asked for, at most {most} can be tried")]
    TooMany { asked: usize, most: usize },
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Model(#[from] crate::session::ModelError),
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    #[error(transparent)]
    Train(#[from] crate::train::TrainError),
    #[error(transparent)]
    Session(#[from] crate::session::SessionError),
    #[error("the session can't be written as text: {0}")]
    Text(#[from] ron::Error),
}
