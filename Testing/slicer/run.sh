#!/bin/sh
# Runs the extension's tests in a Slicer, without and with its main window, and says what ran. Usage: run.sh /path/to/Slicer
slicer=$1
here=$(cd "$(dirname "$0")" && pwd)
module=$(cd "$here/../../InteractiveSeg" && pwd)
failed=0

# --testing: without it an application whose test fails never ends.
run() {
    window=$1 folder=$2 name=$3
    echo "=== $name, ${window:-with the main window}"
    "$slicer" --testing --no-splash $window --additional-module-paths "$module" \
        --python-code "import slicer.testing; slicer.testing.runUnitTest(['$folder'], '$name')" && echo "passed: $name" || {
        echo "FAILED: $name" >&2
        failed=1
    }
}

for window in --no-main-window ""; do
    run "$window" "$here" RegistrationTestCase
    run "$window" "$module" InteractiveSeg
done
exit $failed
