/*!
EdgeLessPart: distributed and progressive inference for the edge-cloud continuum.

A trained network is cut in two, early exits are placed in both halves, the parts run on an edge
device and in the cloud, and every choice is backed by a measurement. This is the map of the
house; data flows through the rooms in one direction, and a room knows only those above it in this list:

| room          | what lives there                                                              |
|---------------|-------------------------------------------------------------------------------|
| [`units`]     | the one way in which bytes are written                                         |
| [`model`]     | the graph of a network: ops, shapes, ONNX import and export, fusion, cuts, zoo |
| [`engine`]    | a graph compiled to a program that runs fast; the kernels; the thread pool     |
| [`backend`]   | the seam for engines: compile, run; ours, ONNX Runtime, candle's devices       |
| [`autograd`]  | a graph in training mode on candle tensors: forward, tape, gradients           |
| [`data`]      | images and labels: loaders, the synthetic set, preprocessing, disjoint splits  |
| [`exits`]     | exit source → rendered layers → a head (a small graph) at an exit point        |
| [`device`]    | measuring a device: layer profile, memory, telemetry                           |
| [`plan`]      | the link's settings, split rules, placement: where to split and leave early    |
| [`predict`]   | confidence tables, exit policies, and the replay that predicts a plan          |
| [`train`]     | training graphs: heads on cached features, backbones, joint                    |
| [`explore`]   | many plans predicted and compared: sweep, scores, the Pareto front             |
| [`runtime`]   | a part, its bundle, and running it; no HTTP                                    |
| [`report`]    | what a plan gives, as text, JSON, CSV and HTML                                 |
| [`deploy`]    | parts as ONNX files for other runtimes, and as what other servers take         |
| [`protocol`]  | the wire between workbench and agents: messages, records, tensors, client      |
| [`event`]     | what a run reports while it goes: stages, connections, notes, readings         |
| [`session`]   | the RON file that holds all of it                                              |
| [`agent`]     | the server that runs parts and jobs on a target                                |
| [`run`]       | from a session to its report: the stages, in order, each kept when done        |
| [`propose`]   | from a network and labelled images to a session: what fits them, tried            |
| [`tui`]       | the workbench: state, keys, screen                                             |
| [`cli`]       | the commands; prints                                                           |

# As a library

Four types lead through it: a [`Network`] is a graph with its layers, cuts and exit points; a [`Planner`]
makes plans of rules and evidence; a [`Part`] is what one tier runs, and is read from and written to a file;
a [`PartRunner`] runs it. `examples/` has both ways: a network split in two, and a part run from its file.

```
use edgelesspart::engine::Cancel;
use edgelesspart::plan::{Plan, Split};
use edgelesspart::runtime::parts::{PartSettings, parts};
use edgelesspart::runtime::runner::ExecutionOptions;
use edgelesspart::{Network, PartRunner, session::Session};

# fn main() -> Result<(), Box<dyn std::error::Error>> {
let network = Network::load(&Session::demo()?)?;
// The first layer behind which the network may be split.
let row = network.table.layers.iter().position(|layer| layer.split_legal);
let plan = Plan::cut(&network.table, vec![Split::After(row.ok_or("no place for a split")?)]);
let settings = PartSettings::default();
let parts = parts(&network.fused, &network.table, &plan, &[], &settings)?;
let mut tensor = vec![0.5; 3 * 32 * 32];
for part in parts {
    let runner = PartRunner::new(part, &ExecutionOptions::default())?;
    let mut work = runner.work();
    runner.run(1, &tensor, &runner.rules(), &mut work, &Cancel::default())?;
    tensor = work.tensor().to_vec();
    if let Some(answer) = work.verdicts[0].latest {
        assert!(answer.prediction < 10);
    }
}
# Ok(())
# }
```
*/

// A package of its own, so that a change above builds nothing of it again; the order of rooms is one all the same.
#[doc(inline)]
pub use edgelesspart_network::{autograd, backend, engine, model};

pub mod agent;
pub mod cli;
pub mod data;
pub mod deploy;
pub mod device;
pub mod event;
pub mod exits;
pub mod explore;
pub mod plan;
pub mod predict;
pub mod propose;
pub mod protocol;
pub mod report;
pub mod run;
pub mod runtime;
pub mod session;
pub mod train;
pub mod tui;
pub mod units;

pub use explore::Planner;
pub use run::Network;
pub use runtime::parts::Part;
pub use runtime::runner::Runner as PartRunner;
