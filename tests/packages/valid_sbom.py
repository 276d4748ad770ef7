"""Fails if one of the files that are named is not a valid bill of materials of CycloneDX 1.5."""

import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

for name in sys.argv[1:]:
    with open(name, encoding="utf-8") as file:
        error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(file.read())
    if error:
        sys.exit(f"{name}: {error}")
