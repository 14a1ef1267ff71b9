public import EventLoop

/// The meaning of the exit codes of a kind of program. Each script has its own profile, because codes such as 3 and 4
/// differ from program to program.
///
/// A code that the profile does not list, and a signal, mean failure. Both are kept in the ``ExitReading``.
///
/// Only the program itself can ask for a retry, by a code. Signals and time limits are not retried, because a retry
/// delays the report to the operator.
public struct ExitProfile: Hashable, Sendable {
    /// The meaning of one code.
    public struct Meaning: Hashable, Sendable {
        /// The result.
        public var result: JobResult
        /// Whether a retry may help; nil for a success.
        public var failureClass: FailureClass?
        /// The name of the code in the program's documentation.
        public var title: String

        /// - Parameters:
        ///   - failureClass: by default `configuration` for a wrong configuration, otherwise `permanent`; a success
        ///     has none.
        ///   - title: by default the name of the result.
        public init(_ result: JobResult, failureClass: FailureClass? = nil, title: String? = nil) {
            self.result = result
            self.failureClass =
                result.isSuccess ? nil : failureClass ?? (result == .wrongConfiguration ? .configuration : .permanent)
            self.title = title ?? result.rawValue
        }
    }

    /// The code that asks for a retry unless a profile lists it: EX_TEMPFAIL of sysexits.h.
    private static let temporaryFailure: Int32 = 75

    /// The name that settings use.
    public var name: String
    /// The meanings of the exit codes (0…255).
    public var meanings: [Int32: Meaning]

    /// A custom profile.
    public init(name: String, meanings: [Int32: Meaning]) {
        self.name = name
        self.meanings = meanings
    }

    /// Interprets the end of a script.
    ///
    /// A script that was stopped at its time limit has failed, and one that was stopped because its job was cancelled
    /// is aborted, independent of its exit code.
    public func reading(of result: ScriptResult) -> ExitReading {
        switch result.cause {
        case .itself: reading(of: result.termination)
        case .timeLimit:
            ExitReading(.failed, .permanent, result.termination, title: "stopped at its time limit", profile: name)
        case .cancellation:
            ExitReading(
                .aborted, .permanent, result.termination, title: "stopped because the job was canceled", profile: name)
        }
    }

    /// Interprets the end of a program that was not stopped by this process (specification: rows.md D12).
    public func reading(of termination: TerminationStatus) -> ExitReading {
        switch termination {
        case .signaled, .unknown:
            return ExitReading(.failed, .permanent, termination, title: JobResult.failed.rawValue, profile: name)
        case .exited(let code):
            let isTemporary = code == Self.temporaryFailure
            let meaning = meanings[code] ?? Meaning(.failed, failureClass: isTemporary ? .retryable : .permanent)
            return ExitReading(meaning.result, meaning.failureClass, termination, title: meaning.title, profile: name)
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

    /// The built-in profiles, which settings choose by name.
    public static let builtIn = [posix, lightsOutServer, lightsOutClient, rsnapshot]
}

/// The interpreted end of a program.
public struct ExitReading: Hashable, Sendable {
    /// The result.
    public var result: JobResult
    /// Whether a retry may help; nil after a success.
    public var failureClass: FailureClass?
    /// The raw exit code or signal.
    public var termination: TerminationStatus
    /// The profile's name for the code.
    public var title: String
    /// The profile's name.
    public var profile: String

    init(
        _ result: JobResult, _ failureClass: FailureClass?, _ termination: TerminationStatus, title: String,
        profile: String
    ) {
        self.result = result
        self.failureClass = failureClass
        self.termination = termination
        self.title = title
        self.profile = profile
    }
}

extension ExitReading {
    /// What a script means by the number that it reports (specification: rows.md L6): a result, otherwise an exit code of its profile.
    static func reported(_ number: Int32, _ profile: ExitProfile) -> ExitReading {
        let results = ExitProfile.lightsOutClient
        return (results.meanings[number] == nil ? profile : results).reading(of: .exited(code: number))
    }

    /// The one with the heavier result (specification: rows.md L8); if they weigh the same, this one.
    func heavier(_ other: ExitReading) -> ExitReading {
        result.heavier(other.result) == result ? self : other
    }
}

extension ExitReading: CustomStringConvertible {
    /// `failed (exit code 9, profile posix)`
    public var description: String { "\(title) (\(termination), profile \(profile))" }
}
