public import SystemPackage

/// A program and all that it is given: nothing passes through a shell. Umask and resource limits are those of this process, and so is the user
/// unless one is given here.
public struct ScriptInvocation: Hashable, Sendable {
    /// The program's absolute path; it is also argument 0.
    public var executable: FilePath
    /// Arguments after argument 0, each handed over as it is. None may hold a NUL.
    public var arguments: [String]
    /// The whole environment of the program.
    public var environment: [String: String]
    /// An absolute path.
    public var workingDirectory: FilePath
    /// How long it may run before its session is ended.
    public var timeLimit: Duration
    /// How long it may take to leave after SIGTERM before SIGKILL.
    public var grace: Duration
    /// As whom it runs; nil: as this process. With a user, the environment may hold none of the dynamic loader's variables (`LD_…`).
    public var user: ScriptUser?
    /// Whether descriptors 3 and 4 are the writing end of a pipe, whose contents are ``ScriptResult/reports``.
    ///
    /// They are read when the program has ended: it must not write more than the pipe holds (64 KiB).
    public var hasReports: Bool
    /// Whether it is killed when this process ends, where it has an init process. Elsewhere it may ask the kernel for that itself
    /// (PR_SET_PDEATHSIG): the thread that starts it lives as long as this process.
    public var isTiedToProcess: Bool

    /// - Parameters:
    ///   - environment: nothing is added to it: without PATH a shell has its own idea of one.
    ///   - timeLimit: from the start; negative counts as zero.
    ///   - grace: from SIGTERM; negative counts as zero.
    public init(
        executable: FilePath, arguments: [String] = [], environment: [String: String] = [:],
        workingDirectory: FilePath = "/", timeLimit: Duration, grace: Duration,
        user: ScriptUser? = nil, hasReports: Bool = false, isTiedToProcess: Bool = false
    ) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.timeLimit = timeLimit
        self.grace = grace
        self.user = user
        self.hasReports = hasReports
        self.isTiedToProcess = isTiedToProcess
    }
}

extension ScriptInvocation {
    /// Refuses what the kernel would cut short or take for something else without a word.
    func validate() throws(ScriptError) {
        try validate(executable, as: "the program's path")
        try validate(workingDirectory, as: "the working directory")
        for (place, argument) in arguments.enumerated() where argument.utf8.contains(0) {
            throw ScriptError(
                .argument, path: executable, reason: "argument \(place + 1) holds a NUL character",
                hint: "an argument ends at a NUL: correct the value it was made from")
        }
        for (name, value) in environment.sorted(by: { $0.key < $1.key }) {
            guard let fault = Self.fault(name: name, value: value) else { continue }
            throw ScriptError(
                .environment, path: executable,
                reason: "environment variable \"\(OneLine.escaping(name))\" \(fault)",
                hint: "correct the variable's name or the value it was made from")
        }
        if user != nil, let name = environment.keys.sorted().first(where: Self.speaksToLoader) {
            throw ScriptError(
                .environment, path: executable,
                reason: "environment variable \"\(name)\" would have code loaded before the rights are given away",
                hint: "set it inside the script, or leave the setting that names the user empty")
        }
    }

    private func validate(_ path: FilePath, as what: String) throws(ScriptError) {
        // FilePath ends a string at its first NUL by itself, so what is left to check is where it begins.
        guard !path.isAbsolute else { return }
        throw ScriptError(
            .path, path: path, reason: "\(what) must be absolute: no search along PATH takes place",
            hint: "give the whole path, beginning with /")
    }

    /// The dynamic loader's own variables (ld.so(8)): the step that gives the rights away is loaded with them.
    private static func speaksToLoader(_ name: String) -> Bool { name.hasPrefix("LD_") || name == "GLIBC_TUNABLES" }

    private static func fault(name: String, value: String) -> String? {
        if name.isEmpty { return "has no name" }
        if name.utf8.contains(UInt8(ascii: "=")) { return "holds = in its name" }
        if name.utf8.contains(0) { return "holds a NUL character in its name" }
        if let first = name.utf8.first, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) {
            return "begins with a digit"
        }
        if value.utf8.contains(0) { return "holds a NUL character in its value" }
        return nil
    }
}
