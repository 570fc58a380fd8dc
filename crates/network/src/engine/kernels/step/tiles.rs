/*! What a kernel takes at once, of the many alike that a step has. */

/// Pixels cut into tiles: spans of neighbours, each into tiles of nearly the same height. That depends
/// on the node, the batch and the instruction set alone, and so does the order of every sum: never on
/// the number of threads or on the graph around.
pub(super) struct Tiles {
    span: usize,
    each: usize,
    pub count: usize,
}

impl Tiles {
    /// `spans` spans of `span` pixels, in as few tiles as the height allows.
    pub(super) fn new(spans: usize, span: usize, height: usize) -> Tiles {
        let each = span.div_ceil(height);
        Tiles {
            span,
            each: each.max(1),
            count: spans * each,
        }
    }

    /// First pixel of a tile, and the one after its last.
    pub(super) fn pixels(&self, tile: usize) -> (usize, usize) {
        let (span, at) = (tile / self.each, tile % self.each);
        let cut = |at: usize| span * self.span + self.span * at / self.each;
        (cut(at), cut(at + 1))
    }
}
