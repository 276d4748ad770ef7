# make demo         the main job, on a throwaway server
# make test         every test, with one round of each fault
# make test-faults  ten rounds of each fault: killed processes, full disk, failover, ...
# make test-majors  the tests on every other major version, from 13 (the program alone) to 18
# make test-core    PostgreSQL's own regression and isolation tests, with the extension
# make test-all     all of them
# make fuzz         a fuzz target for some seconds: make fuzz TARGET=secrets TIME=60
# make bench        measurements, into docs/performance.md: make bench SIZE=medium PART=audit
# make install      a release build into the PostgreSQL of PG_CONFIG
# make program      the program dragonfly-guard, which audits from outside, as one static file
# make deb          the extension as a Debian package, into dist/: make deb PG_MAJOR=17
# make deb-program  the program as a Debian package, into dist/
# make images       a Docker image, and from PostgreSQL 18 an extension image: PG_MAJOR=18
# make test-packages
#                   the packages for PostgreSQL 15 to 18: installed, upgraded and removed
# make release      all packages, bills of materials and checksums, into dist/
# make clean        what the other targets left in the build folder and the cache

PG_CONFIG ?= pg_config

.PHONY: demo all test test-faults test-majors test-core test-all fuzz bench install program deb \
  deb-program images test-packages release clean

demo:
	@scripts/demo

# The client of PGXN runs it before `make install`, which builds.
all:

test:
	@scripts/test

test-faults:
	@scripts/test-faults

test-majors:
	@scripts/test-majors

test-core:
	@scripts/test-core

# One after the other, because three install the extension into the same private copy.
test-all:
	@scripts/test
	@scripts/test-faults
	@scripts/test-majors
	@scripts/test-packages
	@scripts/test-core

fuzz:
	@scripts/fuzz "$(TARGET)" "$(TIME)"

bench:
	@scripts/bench "$(SIZE)" "$(PART)"

install:
	@PG_CONFIG=$(PG_CONFIG) scripts/install

program:
	@scripts/program

deb:
	@PG_MAJOR=$(PG_MAJOR) scripts/deb

deb-program:
	@scripts/deb program

images:
	@PG_MAJOR=$(PG_MAJOR) scripts/images

test-packages:
	@scripts/test-packages

release:
	@scripts/release

clean:
	@scripts/clean
