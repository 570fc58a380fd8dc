/*! Candle tensors in and out of the engine. */
