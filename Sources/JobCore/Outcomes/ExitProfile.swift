/// What the exit codes of a kind of programs mean. A profile is chosen for each script, never for all: 3 and 4 mean one thing here and another there.
///
/// A code that the profile does not list means that the program failed. So does a signal. Both are kept in the ``ExitReading``.
///
/// Only a program itself can say that another try is worthwhile, by one of the codes listed for that. A failure that is tried again is seen
/// late by whoever must mend it, so nothing else counts as passing: neither a signal nor a time limit.
public struct ExitProfile: Hashable, Sendable {
    /// What one code means.
    public struct Meaning: Hashable, Sendable {
        /// What the code says of the work.
        public var result: JobResult
        /// What another try can be expected to bring; nil for a success.
        public var failureClass: FailureClass?
        /// What the program's own documentation calls the code.
        public var title: String

        /// - Parameters:
        ///   - failureClass: where it is not given: `configuration` for a wrong configuration, none for a success, else `permanent`.
        ///   - title: where it is not given, the result's own name.
        public init(_ result: JobResult, failureClass: FailureClass? = nil, title: String? = nil) {
            self.result = result
            self.failureClass =
                result.isSuccess ? nil : failureClass ?? (result == .wrongConfiguration ? .configuration : .permanent)
            self.title = title ?? result.rawValue
        }
    }

    /// The code that asks for another try wherever a profile does not say otherwise: EX_TEMPFAIL of sysexits.h.
    public static let temporaryFailure: Int32 = 75

    /// The name by which settings choose it.
    public var name: String
    /// By exit code (0…255).
    public var meanings: [Int32: Meaning]
    /// Codes after which another try is worthwhile, whether or not they are listed among the meanings.
    public var retryable: Set<Int32>

    /// A profile of its own: see the built-in ones for examples.
    public init(name: String, meanings: [Int32: Meaning], retryable: Set<Int32> = [temporaryFailure]) {
        self.name = name
        self.meanings = meanings
        self.retryable = retryable
    }

    /// For programs of a known enumeration of codes: one call for each case.
    public init<Codes: Collection>(
        name: String, codes: Codes, retryable: Set<Int32> = [temporaryFailure], meaning: (Codes.Element) -> Meaning
    ) where Codes.Element: RawRepresentable<Int32> {
        self.init(
            name: name,
            meanings: Dictionary(codes.map { ($0.rawValue, meaning($0)) }, uniquingKeysWith: { first, _ in first }),
            retryable: retryable)
    }

    /// What the end of a script means.
    ///
    /// A script that was stopped because of its time limit has failed, and one that was stopped because its job was cancelled is aborted,
    /// whichever code it gave while it left.
    public func reading(of result: ScriptResult) -> ExitReading {
        switch result.cause {
        case .itself: reading(of: result.termination)
        case .timeLimit:
            ExitReading(.failed, .permanent, result.termination, title: "stopped at its time limit", profile: name)
        case .cancellation:
            ExitReading(
                .aborted, .permanent, result.termination, title: "stopped because the job was cancelled", profile: name)
        }
    }

    /// What the end of a program means that ended by itself or was ended from outside (specification: rows.md D12).
    public func reading(of termination: ScriptResult.Termination) -> ExitReading {
        switch termination {
        case .signaled:
            return ExitReading(.failed, .permanent, termination, title: JobResult.failed.rawValue, profile: name)
        case .exited(let code):
            let meaning = meanings[code] ?? Meaning(.failed)
            let failureClass = !meaning.result.isSuccess && retryable.contains(code) ? .retryable : meaning.failureClass
            return ExitReading(meaning.result, failureClass, termination, title: meaning.title, profile: name)
        }
    }
}

extension ExitProfile {
    /// 0 is success, everything else a failure.
    public static let posix = ExitProfile(name: "posix", meanings: [0: Meaning(.success)])

    /// Specification: rows.md L5.
    public static let lightsOutServer = ExitProfile(
        name: "lightsout-server",
        meanings: [
            0: Meaning(.success), 1: Meaning(.failed), 2: Meaning(.aborted), 3: Meaning(.warnings),
            4: Meaning(.undefined),
        ])

    /// The codes of the reporter command (specification: rows.md L6).
    public static let lightsOutClient = ExitProfile(
        name: "lightsout-client",
        meanings: [
            0: Meaning(.success), 1: Meaning(.failed), 2: Meaning(.aborted), 3: Meaning(.warnings), 4: Meaning(.missed),
            5: Meaning(.wrongConfiguration), 255: Meaning(.unknown),
        ])

    /// rsnapshot(1), "EXIT VALUES".
    public static let rsnapshot = ExitProfile(
        name: "rsnapshot", meanings: [0: Meaning(.success), 1: Meaning(.failed), 2: Meaning(.warnings)])

    /// The profiles that are always there, for settings that choose by name.
    public static let builtIn = [posix, lightsOutServer, lightsOutClient, rsnapshot]
}

/// What the end of a program means, with what the kernel said of it.
public struct ExitReading: Hashable, Sendable {
    /// What the end says of the work.
    public var result: JobResult
    /// What another try can be expected to bring; nil after a success.
    public var failureClass: FailureClass?
    /// The raw exit code or signal.
    public var termination: ScriptResult.Termination
    /// What the profile calls the code.
    public var title: String
    /// The profile's name.
    public var profile: String

    init(
        _ result: JobResult, _ failureClass: FailureClass?, _ termination: ScriptResult.Termination, title: String,
        profile: String
    ) {
        self.result = result
        self.failureClass = failureClass
        self.termination = termination
        self.title = title
        self.profile = profile
    }
}

extension ExitReading: CustomStringConvertible {
    /// `failed (exit code 9, profile posix)`
    public var description: String { "\(title) (\(termination), profile \(profile))" }
}

extension ScriptResult.Termination: CustomStringConvertible {
    /// `exit code 9` or `signal 15`
    public var description: String {
        switch self {
        case .exited(let code): "exit code \(code)"
        case .signaled(let number): "signal \(number)"
        }
    }
}
