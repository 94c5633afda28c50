# C++: what is installed, and how it is tested. Included by the Makefile at the repository's root.
#
#   install-files   copies headers, library, program, pkg-config and CMake files to $(DESTDIR)$(PREFIX), and what the
#                   program says of itself: manual pages and completions; builds nothing
#   test-cpp        the C++ tests and the C++ example, against build/stage
#
# LIBDIR is a path below PREFIX ("lib", "lib64", "lib/x86_64-linux-gnu"): what is installed finds its headers from there,
# so the tree can be moved as a whole.

PREFIX  ?= /usr/local
DESTDIR ?=
LIBDIR  ?= lib
INSTALL ?= install
PODKEEP_LIBRARY_FILE ?= target/release/libpodkeep.so
PODKEEP_PROGRAM_FILE ?= target/release/podkeep
# The first `version = "..."` of Cargo.toml is the package's.
PODKEEP_VERSION ?= $(shell sed -n 's/^version *= *"\([^"]*\)".*/\1/p' Cargo.toml 2>/dev/null | head -n 1)

cpp_root     = $(DESTDIR)$(PREFIX)
cpp_up       = $(shell printf '%s\n' '$(LIBDIR)' | sed 's,[^/][^/]*,..,g')
cpp_fill     = sed -e 's,@VERSION@,$(PODKEEP_VERSION),g' -e 's,@UP@,$(cpp_up),g' -e 's,@LIBDIR@,$(LIBDIR),g'
cpp_licences = $(wildcard LICENSE-MIT LICENSE-APACHE)

# The library is renamed into place: a program that runs with the old one keeps it.
.PHONY: install-files
install-files:
	@test -f $(PODKEEP_LIBRARY_FILE) || { echo "$(PODKEEP_LIBRARY_FILE) is missing: build the library first" >&2; exit 1; }
	@test -n "$(PODKEEP_VERSION)" || { echo "no version found in Cargo.toml" >&2; exit 1; }
	@case '$(LIBDIR)' in /*|*..*) echo "LIBDIR=$(LIBDIR): give a path below PREFIX" >&2; exit 1;; esac
	$(INSTALL) -d $(cpp_root)/include/podkeep $(cpp_root)/$(LIBDIR)/pkgconfig $(cpp_root)/$(LIBDIR)/cmake/podkeep
	$(INSTALL) -m 644 include/podkeep.h bindings/cpp/podkeep.hpp $(cpp_root)/include/
	$(INSTALL) -m 644 bindings/cpp/podkeep/*.hpp $(cpp_root)/include/podkeep/
	$(INSTALL) -m 755 $(PODKEEP_LIBRARY_FILE) $(cpp_root)/$(LIBDIR)/libpodkeep.so.0.new
	mv -f $(cpp_root)/$(LIBDIR)/libpodkeep.so.0.new $(cpp_root)/$(LIBDIR)/libpodkeep.so.0
	$(INSTALL) -d $(cpp_root)/bin
	$(INSTALL) -m 755 $(PODKEEP_PROGRAM_FILE) $(cpp_root)/bin/podkeep.new
	mv -f $(cpp_root)/bin/podkeep.new $(cpp_root)/bin/podkeep
	$(INSTALL) -d $(cpp_root)/share/man/man1 $(cpp_root)/share/bash-completion/completions \
	  $(cpp_root)/share/zsh/site-functions $(cpp_root)/share/fish/vendor_completions.d
	$(PODKEEP_PROGRAM_FILE) man $(cpp_root)/share/man/man1
	$(PODKEEP_PROGRAM_FILE) completions bash > $(cpp_root)/share/bash-completion/completions/podkeep
	$(PODKEEP_PROGRAM_FILE) completions zsh > $(cpp_root)/share/zsh/site-functions/_podkeep
	$(PODKEEP_PROGRAM_FILE) completions fish > $(cpp_root)/share/fish/vendor_completions.d/podkeep.fish
	ln -sf libpodkeep.so.0 $(cpp_root)/$(LIBDIR)/libpodkeep.so
	$(cpp_fill) bindings/cpp/podkeep.pc.in > $(cpp_root)/$(LIBDIR)/pkgconfig/podkeep.pc
	$(cpp_fill) bindings/cpp/podkeepConfig.cmake.in > $(cpp_root)/$(LIBDIR)/cmake/podkeep/podkeepConfig.cmake
	$(cpp_fill) bindings/cpp/podkeepConfigVersion.cmake.in > $(cpp_root)/$(LIBDIR)/cmake/podkeep/podkeepConfigVersion.cmake
	$(if $(cpp_licences),$(INSTALL) -d $(cpp_root)/share/doc/podkeep)
	$(if $(cpp_licences),$(INSTALL) -m 644 $(cpp_licences) $(cpp_root)/share/doc/podkeep/)

.PHONY: test-cpp
test-cpp: stage
	tests/cpp/run.sh
