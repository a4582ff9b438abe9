"""What has nothing to do with sound: atomic files, shared work, a resumable table, the installer for Colab."""
