# The examples of README.md and docs/guide.md, built and run as they stand there. Needs libuv1-dev (`make deps`).
.PHONY: test-readme
test-readme: stage
	CC='$(CC)' CXX='$(CXX)' PYTHON='$(PYTHON)' STAGE='$(STAGE)' tests/readme/run.sh
