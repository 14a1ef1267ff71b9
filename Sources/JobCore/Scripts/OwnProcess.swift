import CLinux

/// What this process sets for itself, and what it starts is not to have.
package enum OwnProcess {
    /// Raises the soft limit on open files to the hard one. The usual soft limit is for programs that use select(2), and scripts may: they get that one.
    package static func raiseOpenFiles() { clinux_raise_open_files() }

    /// Sees to it that no image of its memory, which holds passwords, is written when it crashes, whatever its limits say and wherever the system sends such
    /// images (core(5)). What it starts is not concerned.
    package static func forbidCoreDumps() { clinux_forbid_core_dumps() }
}
