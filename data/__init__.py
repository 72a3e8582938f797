"""From files on disk to batches of waveforms. Knows nothing of networks."""

from data.audio import load_audio
from data.esc50 import esc50
from data.manifest import Clip, Manifest
from data.synthetic import synthetic

__all__ = ["Clip", "Manifest", "esc50", "load_audio", "synthetic"]
