"""From files on disk to batches of waveforms. Knows nothing of networks."""

from data.audio import load_audio, stream_audio
from data.audioset import audioset
from data.esc50 import esc50
from data.folder import folder
from data.hugging_face import hugging_face
from data.manifest import Clip, Clips, Manifest
from data.speech_commands import speech_commands
from data.synthetic import synthetic
from data.table import table

__all__ = [
    "Clip",
    "Clips",
    "Manifest",
    "audioset",
    "esc50",
    "folder",
    "hugging_face",
    "load_audio",
    "speech_commands",
    "stream_audio",
    "synthetic",
    "table",
]
