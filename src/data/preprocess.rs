/*! From pixels to a network's input; the loader and the agents both come here. */

use super::{Channels, DataError, Layout, Preprocessing};

impl Preprocessing {
    /// Writes the network's input for one image, `(x · scale − mean) / std` in the layout asked for,
    /// from its pixels `[c, h, w]`.
    ///
    /// # Errors
    /// `pixels` or `out` isn't c·h·w long, or mean or std have neither one entry nor one a channel.
    pub fn apply(
        &self,
        shape: [usize; 3],
        pixels: &[u8],
        out: &mut [f32],
    ) -> Result<(), DataError> {
        let [channels, height, width] = shape;
        let plane = height * width;
        for length in [pixels.len(), out.len()] {
            if length != channels * plane {
                return Err(DataError::Request(format!(
                    "a buffer of {length} numbers for an image of {channels}×{height}×{width}"
                )));
            }
        }
        for (name, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != 1 && values.len() != channels {
                return Err(DataError::Request(format!(
                    "preprocessing.{name} has {} values; give one, or one for each of the \
                     {channels} channels",
                    values.len()
                )));
            }
        }
        if plane == 0 {
            return Ok(());
        }
        for (from, values) in pixels.chunks_exact(plane).enumerate() {
            let channel = match self.channels {
                Channels::Rgb => from,
                Channels::Bgr => channels - 1 - from,
            };
            let mean = self.mean[channel % self.mean.len()];
            let std = self.std[channel % self.std.len()];
            // The formula as written, not one multiply-add: reference pipelines compute it so, and
            // the last bit should agree with them.
            let value = |byte: u8| (f32::from(byte) * self.scale - mean) / std;
            match self.layout {
                Layout::Nchw => {
                    let out = &mut out[channel * plane..(channel + 1) * plane];
                    for (to, &byte) in out.iter_mut().zip(values) {
                        *to = value(byte);
                    }
                }
                Layout::Nhwc => {
                    for (at, &byte) in values.iter().enumerate() {
                        out[at * channels + channel] = value(byte);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    /// As `cv2.dnn.blobFromImage(rgb, 1.0, (1, 1), (104, 117, 123), swapRB=True)` has it: the means are
    /// in the network's order.
    #[test]
    fn blue_comes_first_where_the_network_wants_it() {
        let caffe = Preprocessing {
            scale: 1.0,
            mean: vec![104.0, 117.0, 123.0],
            channels: Channels::Bgr,
            ..Preprocessing::default()
        };
        let mut out = [0.0; 3];
        caffe.apply([3, 1, 1], &[200, 100, 50], &mut out).unwrap();
        assert_eq!(out, [-54.0, -17.0, 77.0]);
        let mut out = [0.0];
        let grey = Preprocessing {
            mean: vec![0.0],
            ..caffe
        };
        grey.apply([1, 1, 1], &[9], &mut out).unwrap();
        assert_eq!(out, [9.0]);
    }
}
