# make demo      the main job, on a throwaway server
# make test      every test
# make install   a release build into the PostgreSQL of PG_CONFIG
# make clean     what the other targets left in the build folder and the cache

PG_CONFIG ?= pg_config

.PHONY: demo test install clean

demo:
	@scripts/demo

test:
	@scripts/test

install:
	@PG_CONFIG=$(PG_CONFIG) scripts/install

clean:
	@scripts/clean
