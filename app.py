"""Start the app that judges recordings: python app.py [--checkpoint FILE] [--host ADDRESS] [--port NUMBER].

The code is in web/app.py. Hosting services look for this file.
"""

import sys

try:
    from web.app import main
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed: pip install {error.name}")

if __name__ == "__main__":
    sys.exit(main())
