/*! Training: heads on cached features, backbones, both together. */

pub mod settings;

pub use settings::Training;
