"""PatchDictionaryDenoiser and its torch form."""
