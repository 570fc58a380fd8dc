/*!
`train`: a backbone, from scratch or fine-tuned. After each epoch the network so far lies in a
checkpoint beside the output, from which the same command goes on after a kill or Ctrl-C.
*/

use super::data::DataArg;
use super::error::usage;
use super::network::{self, BUILT_IN, InputShape, SEED, Sizes};
use super::progress::{Bar, LoudnessArgs};
use crate::backend::{Backend, CompileOptions, Native};
use crate::data::{Calibration, Layout, LoadOptions, LoadedData, Preprocessing, Set, Source};
use crate::engine::{Cancel, EngineError};
use crate::model::export::write_file;
use crate::model::{Graph, fuse};
use crate::run::samples::{Images, accuracy};
use crate::session::{ModelSource, Session};
use crate::train::{
    Event, FEATURE_BATCH, Optimizer, Samples, TrainError, Training, TrainingConfig,
};
use crate::train::{Task, learnt_so_far, train_joint};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// Train a network, from scratch or (a file) further, and write it as ONNX. Say which with a
/// session, or with --model and --data. Ctrl-C keeps what is learnt: the same command goes on.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// A session file: its network, data, preprocessing, batch size and seed.
    #[arg(required_unless_present_all = ["model", "data"], conflicts_with = "model")]
    session: Option<PathBuf>,
    /// An ONNX file or demo, to be trained further; or a built-in network: resnet50, mobilenetv2,
    /// inceptionv3, resnet8, resnet14, resnet20.
    #[arg(long)]
    model: Option<String>,
    /// The images: `synthetic`, or a folder or file, told by what is in it; in place of the
    /// session's where there is one.
    #[arg(long, value_name = "DIR|synthetic")]
    data: Option<DataArg>,
    /// The ONNX file to write.
    #[arg(long)]
    out: PathBuf,
    /// Passes over the training images [default: the session's for a backbone, else 20].
    #[arg(long)]
    epochs: Option<usize>,
    /// Images a step [default: the session's, else 128].
    #[arg(long)]
    batch: Option<usize>,
    /// Learning rate at the start; it falls to 0 along a cosine.
    #[arg(long, default_value_t = 2e-3, value_name = "RATE")]
    learning_rate: f64,
    /// Pull of the weights towards zero.
    #[arg(long, default_value_t = 1e-2, value_name = "PULL")]
    weight_decay: f64,
    /// Share of the target spread over all classes.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    label_smoothing: f64,
    /// How parameters follow their gradients.
    #[arg(long, value_enum, default_value_t = Rule::Adamw)]
    optimizer: Rule,
    /// Mirror images left to right, at random.
    #[arg(long)]
    flip: bool,
    /// Move images by up to so many pixels, at random.
    #[arg(long, default_value_t = 0, value_name = "PIXELS")]
    shift: usize,
    /// Seed of first weights, order and augmentation [default: the session's, else 7].
    #[arg(long)]
    seed: Option<u64>,
    /// Images held out of the training images, on which each epoch is judged [default: the
    /// session's, else 1000].
    #[arg(long, value_name = "IMAGES")]
    calibration: Option<usize>,
    /// At most so many training images.
    #[arg(long, value_name = "IMAGES")]
    train_samples: Option<usize>,
    /// Subtracted from pixels of 0 to 1, one a channel.
    #[arg(long, value_delimiter = ',', conflicts_with = "session")]
    mean: Option<Vec<f32>>,
    /// Divisor after that, one a channel.
    #[arg(long, value_delimiter = ',', conflicts_with = "session")]
    std: Option<Vec<f32>>,
    #[command(flatten)]
    loudness: LoudnessArgs,
    /// Forget the checkpoint and begin anew.
    #[arg(long)]
    fresh: bool,
    /// Input of a built-in network, as 3x224x224; its paper's if left out.
    #[arg(long, value_name = "CxHxW", help_heading = BUILT_IN)]
    input: Option<InputShape>,
    /// Classes of a built-in network; those of the data if left out.
    #[arg(long, help_heading = BUILT_IN)]
    classes: Option<usize>,
    /// Factor of all channel counts of mobilenetv2, resnet8, resnet14 or resnet20.
    #[arg(long, value_name = "FACTOR", help_heading = BUILT_IN)]
    width: Option<f64>,
}

/// The optimizers, as they are typed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Rule {
    Adamw,
    Sgd,
}

/// What is to be done, once flags and session have been put together.
struct TrainJob {
    model: ModelSource,
    /// Whether the classes of a built-in network are to follow the data.
    any_classes: bool,
    data: Source,
    preprocessing: Preprocessing,
    /// Outputs that classes of the data stand for, where a session says so.
    outputs: Vec<(String, usize)>,
    calibration: Calibration,
    train_samples: Option<usize>,
    hyper: TrainingConfig,
}

/// Runs the command.
pub fn run(args: &TrainArgs, cancel: &Cancel) -> anyhow::Result<()> {
    args.loudness.apply();
    let mut job = job(args)?;
    let (graph, data) = load(args, &mut job, cancel)?;
    let classes = graph.outputs.first().and_then(|&o| {
        let sample = graph.value(o).shape.sample()?;
        Some(sample.iter().product::<usize>())
    });
    if classes != Some(data.classes()) {
        return Err(anyhow::Error::msg(format!(
            "the network has {} classes, the data {}",
            classes.map_or("no".into(), |n| n.to_string()),
            data.classes()
        )));
    }
    let train = Images::new(&data, Set::Train, &job.preprocessing)?;
    let held_out = Images::new(&data, Set::Calibration, &job.preprocessing)?;
    let checkpoint = beside(&args.out);
    if args.fresh && checkpoint.exists() {
        std::fs::remove_file(&checkpoint).context(checkpoint.display().to_string())?;
    }
    let mut stage = Bar::start("training", job.hyper.epochs as u64);
    stage.say(&format!(
        "{} on {} images, judged on {} others",
        graph.name,
        train.len(),
        held_out.len()
    ));
    let task = Task {
        data: &train,
        hyper: &job.hyper,
        judge: None,
        saved: Some(&checkpoint),
        cancel,
    };
    let told = train_joint(&graph, 1.0, &[], &task, &mut |event| {
        let Event::Epoch { .. } = event else {
            return tell(&mut stage, &event, None);
        };
        let judged = learnt_so_far(&checkpoint, &graph)
            .map_err(anyhow::Error::from)
            .and_then(|learnt| judge(&learnt, &held_out, cancel));
        tell(&mut stage, &event, Some(judged));
    });
    let (trained, _) = match told {
        Ok(trained) => trained,
        Err(TrainError::Engine(EngineError::Cancelled)) if checkpoint.exists() => {
            return Err(anyhow::Error::msg(format!(
                "stopped; {} keeps the finished epochs, the same command goes on from there",
                checkpoint.display()
            )));
        }
        Err(error) => return Err(error.into()),
    };
    write_file(&trained, &args.out)?;
    if checkpoint.exists() {
        std::fs::remove_file(&checkpoint).context(checkpoint.display().to_string())?;
    }
    let accuracy = judge(&trained, &held_out, cancel)?;
    stage.done(&format!(
        "{}: {:.1} % on the calibration set",
        args.out.display(),
        100.0 * accuracy
    ));
    Ok(())
}

/// The checkpoint of a training that writes `out`.
fn beside(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".checkpoint");
    name.into()
}

fn judge(graph: &Graph, images: &Images, cancel: &Cancel) -> anyhow::Result<f64> {
    let network = Native::default().compile(fuse(graph), &CompileOptions::default())?;
    Ok(accuracy(&*network, images, FEATURE_BATCH, cancel)?)
}

fn tell(stage: &mut Bar, event: &Event, held_out: Option<anyhow::Result<f64>>) {
    if let Some(remark) = event.remark() {
        stage.say(&remark);
    }
    match event {
        Event::Resumed { epoch } => stage.step(*epoch as u64),
        Event::Epoch {
            epoch,
            epochs,
            seconds,
            scores,
            ..
        } => {
            let (loss, right) = scores.first().map_or((0.0, 0.0), |s| (s.1, s.2));
            let held_out = match held_out {
                Some(Ok(share)) => format!("calibration accuracy {:.1} %", 100.0 * share),
                Some(Err(error)) => format!("not judged: {error}"),
                None => "not judged".to_string(),
            };
            stage.say(&format!(
                "epoch {epoch}/{epochs}: loss {loss:.3}, training accuracy {:.1} %, {held_out} \
                 ({seconds:.0} s)",
                100.0 * right
            ));
            stage.step(*epoch as u64);
        }
        _ => {}
    }
}

/// Flags and session together; a flag wins.
fn job(args: &TrainArgs) -> anyhow::Result<TrainJob> {
    let session = match &args.session {
        Some(file) => {
            let folder = file.parent().unwrap_or(Path::new(""));
            Some(Session::read(file)?.resolved(folder))
        }
        None => None,
    };
    let sizes = Sizes {
        classes: args.classes,
        width: args.width,
    };
    let model = match (&args.model, &session) {
        (Some(name), _) => network::source(name, args.input, &sizes)?,
        (None, Some(session)) => {
            if args.input.is_some() || args.classes.is_some() || args.width.is_some() {
                return Err(usage(
                    "--input, --classes and --width go with --model; the session has its own",
                ));
            }
            session.model.clone()
        }
        (None, None) => return Err(usage("name a session, or --model and --data")),
    };
    let data = match (&args.data, &session) {
        (Some(DataArg(source)), _) => source.clone(),
        (None, Some(session)) => session.data.clone(),
        (None, None) => return Err(usage("name the images with --data")),
    };
    let mut preprocessing = session
        .as_ref()
        .map_or_else(Preprocessing::default, |s| s.pixels().clone());
    preprocessing.mean = args.mean.clone().unwrap_or(preprocessing.mean);
    preprocessing.std = args.std.clone().unwrap_or(preprocessing.std);
    let calibration = match (args.calibration, &session) {
        (Some(n), _) => Calibration::FromTrain(n),
        (None, Some(session)) => session.calibration,
        (None, None) => Calibration::FromTrain(1000),
    };
    let epochs = session.as_ref().and_then(|s| match s.exits.training {
        Training::Mixed { backbone, .. } => Some(backbone),
        Training::Joint { epochs } => Some(epochs),
        Training::Frozen { .. } => None,
    });
    let session = session.as_ref();
    let hyper = TrainingConfig {
        epochs: args.epochs.or(epochs).unwrap_or(20),
        batch: args.batch.or(session.map(|s| s.batch.train)).unwrap_or(128),
        learning_rate: args.learning_rate,
        weight_decay: args.weight_decay,
        label_smoothing: args.label_smoothing,
        optimizer: match args.optimizer {
            Rule::Adamw => Optimizer::AdamW,
            Rule::Sgd => Optimizer::Sgd,
        },
        seed: args.seed.or(session.map(|s| s.seed)).unwrap_or(SEED),
        flip: args.flip,
        shift: args.shift,
        ..TrainingConfig::default()
    };
    Ok(TrainJob {
        any_classes: args.model.is_some() && args.classes.is_none(),
        model,
        data,
        preprocessing,
        outputs: session.map_or_else(Vec::new, |s| s.classes.clone()),
        calibration,
        train_samples: args.train_samples.or(session.and_then(|s| s.train_samples)),
        hyper,
    })
}

/// The network and the images, at its size; a built-in network takes the classes of the data where
/// nothing else was asked for.
fn load(
    args: &TrainArgs,
    job: &mut TrainJob,
    cancel: &Cancel,
) -> anyhow::Result<(Graph, LoadedData)> {
    let seed = job.hyper.seed;
    let mut graph = network::load(&job.model, seed)?;
    network::check_input(&job.model, &graph, args.input, "--input")?;
    let sample = match graph.inputs.as_slice() {
        [input] => graph.value(*input).shape.sample(),
        _ => None,
    };
    if let (None, Some(layout)) = (&args.session, sample.as_deref().and_then(Layout::of)) {
        job.preprocessing.layout = layout;
    }
    let input = match (sample.as_deref(), job.preprocessing.layout) {
        (Some(&[c, h, w]), Layout::Nchw) | (Some(&[h, w, c]), Layout::Nhwc) => [c, h, w],
        _ => {
            return Err(anyhow::Error::msg(format!(
                "`{}` doesn't take one image; only classifiers of images can be trained",
                graph.name
            )));
        }
    };
    if job.preprocessing.layout == Layout::Nhwc && (args.flip || args.shift > 0) {
        return Err(usage(
            "--flip and --shift need a network that takes channels first",
        ));
    }
    let options = LoadOptions {
        input,
        fit: job.preprocessing.fit,
        classes: None,
        outputs: job.outputs.clone(),
        output_names: graph.class_names.clone(),
        calibration: job.calibration,
        train: job.train_samples,
        // Nobody looks at the test images here.
        test: Some(1),
        seed,
    };
    let mut stage = Bar::start("images", 0);
    let data = LoadedData::load(
        &job.data,
        &options,
        &mut |p| stage.set(p.done, p.total, ""),
        cancel,
    )?;
    stage.done(&format!("{} classes", data.classes()));
    data.notes().iter().for_each(|note| eprintln!("{note}"));
    if let (ModelSource::Zoo { classes, .. }, true) = (&mut job.model, job.any_classes)
        && *classes != data.classes()
    {
        *classes = data.classes();
        graph = network::load(&job.model, seed)?;
    }
    Ok((graph, data))
}
