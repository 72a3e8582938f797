"""From files on disk to batches of waveforms. Knows nothing of networks."""

from data.audio import load_audio, stream_audio
from data.corpora.audioset import audioset
from data.corpora.birdclef import birdclef
from data.corpora.esc50 import esc50
from data.corpora.folder import folder
from data.corpora.hugging_face import hugging_face
from data.corpora.speech_commands import speech_commands
from data.corpora.synthetic import synthetic
from data.corpora.table import table
from data.manifest import Clip, Clips, Manifest

__all__ = [
    "Clip",
    "Clips",
    "Manifest",
    "audioset",
    "birdclef",
    "esc50",
    "folder",
    "hugging_face",
    "load_audio",
    "speech_commands",
    "stream_audio",
    "synthetic",
    "table",
]
