package import SystemPackage

/// What a sandbox is asked to be. The defaults are those of a demonstration; tests start from ``testing``.
package struct SandboxOptions: Sendable {
    /// A TCP port on 127.0.0.1 for `ldap://`, 1 to 65535, or 0 for a free one. Without it the server has a socket only.
    package var loopbackPort: Int?
    /// A TCP port on 127.0.0.1 for `ldaps://`, 1 to 65535, or 0 for a free one. Asking for it asks for ``tls``.
    package var loopbackTLSPort: Int?
    /// Makes a certificate for `localhost` and 127.0.0.1, so that the server offers StartTLS.
    package var tls = false
    /// Loads the overlay for Content Sync (RFC 4533). Without it a client has to poll.
    package var contentSync = true
    /// Loads the shipped example tree into a new, empty directory. Without it only the Manager can log in.
    package var loadExampleTree = true
    /// Flushes every write to the disk, as a server in operation does. Without it a crash of the machine may lose data,
    /// and writes are many times faster.
    package var flushesToDisk = true
    /// Ends the server as soon as this process ends, however it ends, or lets go of the sandbox.
    package var endsWithParent = false
    /// Further lines for the global part of slapd.conf, such as `moduleload retcode`.
    package var globalLines: [String] = []
    /// Further lines for the database, after the overlays, such as `overlay retcode` and its settings.
    package var databaseLines: [String] = []
    /// The directory that holds the shipped pieces (schema, indexes, limits, access rules, example tree). Without it they
    /// are searched for, see ``SandboxPieces``.
    package var pieces: FilePath?
    /// How long the server may take until it answers.
    package var startTimeout: Duration = .seconds(20)

    /// A server as a demonstration wants it: it outlives the program that starts it, and keeps what is written.
    package init() {}

    /// A server for one test: it ends with the test's process and does not wait for the disk.
    package static var testing: SandboxOptions {
        var options = SandboxOptions()
        options.endsWithParent = true
        options.flushesToDisk = false
        options.startTimeout = .seconds(120)
        return options
    }

    /// Whether a port is ours to choose.
    var choosesPort: Bool { loopbackPort == 0 || loopbackTLSPort == 0 }

    var wantsTLS: Bool { tls || loopbackTLSPort != nil }
}
