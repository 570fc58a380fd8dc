/*!
EdgeLessPart: distributed and progressive inference for the edge-cloud continuum.

A trained network is cut in two, early exits are placed in both halves, the parts run on an edge
device and in the cloud, and every choice is backed by a measurement. This is the map of the
house; data flows through the rooms in one direction, and no room knows the ones below it:

| room          | what lives there                                                              |
|---------------|-------------------------------------------------------------------------------|
| [`model`]     | the graph of a network: ops, shapes, ONNX import and export, fusion, cuts, zoo |
| [`engine`]    | a graph compiled to a program that runs fast; the kernels; the thread pool     |
| [`data`]      | images and labels: loaders, the synthetic set, preprocessing, disjoint splits  |
| [`exits`]     | exit source → rendered layers → a head (a small graph) at an exit point        |
| [`device`]    | measuring a device: layer profile, memory, link                                |
| [`partition`] | where to split, where to put exits, what the parts are                         |
| [`train`]     | training graphs with candle: heads on cached features, backbones, joint        |
| [`evaluate`]  | confidence tables, the exit policy, calibration, sweep, bill, report           |
| [`session`]   | the RON file that holds all of it                                              |
| [`remote`]    | the wire between workbench, edge and cloud: messages, tensors, client          |
| [`agent`]     | the server that runs parts and jobs on a target                                |
| [`run`]       | from a session to its report: the stages, in order, each kept when done        |
| [`tui`]       | the workbench: state, keys, screen                                             |
| [`cli`]       | the commands; prints                                                           |
*/

pub mod agent;
pub mod cli;
pub mod data;
pub mod device;
pub mod engine;
pub mod evaluate;
pub mod exits;
pub mod model;
pub mod partition;
pub mod remote;
pub mod run;
pub mod session;
pub mod train;
pub mod tui;
