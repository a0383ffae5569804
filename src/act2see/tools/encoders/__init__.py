"""What a retriever searches with: pictures and texts become vectors of one space. One file a family of models, each a `FrameEncoder`."""
