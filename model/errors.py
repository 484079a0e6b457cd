"""The project's one error tree. A message gives the offending value and the remedy."""


class UmtError(Exception):
    """Base of every error a user can cause or meet; the command line prints it as one line."""


class ConfigError(UmtError):
    """A profile or setting is outside what the network or engine supports."""


class ShapeError(UmtError):
    """An array has the wrong shape or dtype for the call it was given to."""


class BundleError(UmtError):
    """A bundle is missing, damaged, foreign, or newer than this program."""


class UnknownDomain(UmtError):
    """A domain was asked for that the loaded bundle, or umt itself, does not have."""


class BackendUnavailable(UmtError):
    """A backend or sampler was asked for that this machine cannot run."""


class AudioFileError(UmtError):
    """A sound file cannot be read or written."""


class AudioDeviceError(UmtError):
    """A sound device cannot be opened or has stopped."""


class DataError(UmtError):
    """Training data is missing, damaged or unusable."""


class TrainingError(UmtError):
    """A training run cannot start, go on, or resume."""


class ExportError(UmtError):
    """A network cannot be exported, or what was exported does not compute the same."""


class MidiError(UmtError):
    """A MIDI port cannot be opened, or a map of controllers cannot be used."""
