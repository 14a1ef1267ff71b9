/// What the process's own exit status says (sysexits.h), apart from the provisioning codes of one-shot commands.
package enum ProcessExitStatus: Int32, Hashable, Sendable, CaseIterable {
    /// Done.
    case success = 0
    /// Anything that has no status of its own.
    case failure = 1
    /// The command line is wrong (EX_USAGE).
    case wrongUsage = 64
    /// The directory cannot be reached, or the daemon that a command needs (EX_UNAVAILABLE).
    case unavailable = 69
    /// Something else is in the way just now, such as another instance: try again (EX_TEMPFAIL).
    case tryAgain = 75
    /// Not allowed (EX_NOPERM).
    case notAllowed = 77
    /// The configuration is wrong (EX_CONFIG).
    case wrongConfiguration = 78
}
