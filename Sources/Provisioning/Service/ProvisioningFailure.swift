public import JobCore
package import SystemPackage

/// Why an account could not be provisioned: the code for the entry, and the message for the operator.
public struct ProvisioningFailure: Error, Hashable, Sendable {
    /// The code for the entry.
    public var code: ProvisioningExitCode
    /// Whether another attempt may help.
    public var failureClass: FailureClass
    /// What failed and where: a DN and attribute, a path component, a program and its exit status.
    public var reason: String
    /// The command or setting that fixes it.
    public var hint: String
    /// The last output of a program that failed; empty where there was none.
    public var output: String

    /// By default a permanent failure.
    public init(
        _ code: ProvisioningExitCode, _ failureClass: FailureClass = .permanent, reason: String, hint: String,
        output: String = ""
    ) {
        self.code = code
        self.failureClass = failureClass
        self.reason = reason
        self.hint = hint
        self.output = output
    }
}

extension ProvisioningFailure: CustomStringConvertible {
    /// Reason, code and hint in one line.
    public var description: String { "\(reason) (\(code.name), \(code.rawValue)); \(hint)" }
}

extension ScriptResult {
    /// How to fix a script that has failed.
    /// - Parameters:
    ///   - limit: the setting of its time limit.
    ///   - job: its job.
    package func failureHint(limit: String, job: JobID) -> String {
        if cause == .timeLimit { return "fix what the script waits for, or raise \(limit)" }
        if case .signaled = termination {
            return
                "find out what sent the signal: the machine's memory was short (dmesg), the script has a fault, or somebody ended it"
        }
        return "fix what its output names; its command is in: prov-backup-rsnapshot jobs show \(job)"
    }
}

/// The exit codes of provisioning: on the entry as ReturnValue, and the status of a one-shot run (specification: contracts.md#provisioning-codes).
public enum ProvisioningExitCode: Int32, CaseIterable, Hashable, Sendable {
    case success = 0
    /// Anything not listed.
    case undefinedError = 1
    /// The entry was removed, or the system's user database does not know the account.
    case userNotPresentInBackend = 2
    /// A runtime requirement is not satisfied: a program is missing or too old. The old name keeps its spelling.
    case runtimeRequirementNotSatisfied = 3
    case cannotCheckHomeDirPresence = 4
    case cannotCreateHomeDir = 5
    case cannotSetQuota = 6
    case cannotCreateRsnapshotConfiguration = 7

    /// The name by which the old programs know the code.
    public var name: String {
        switch self {
        case .success: "SUCCESS"
        case .undefinedError: "UNDEFINED_ERROR"
        case .userNotPresentInBackend: "USER_NOT_PRESENT_IN_BACKEND"
        case .runtimeRequirementNotSatisfied: "PERL_VERSION_NOT_STATISFIED"
        case .cannotCheckHomeDirPresence: "CANNOT_CHECK_HOME_DIR_PRESENCE"
        case .cannotCreateHomeDir: "CANNOT_CREATE_HOME_DIR"
        case .cannotSetQuota: "CANNOT_SET_QUOTA"
        case .cannotCreateRsnapshotConfiguration: "CANNOT_CREATE_RSNAPSHOT_CONFIGURATION"
        }
    }
}

extension ExitProfile {
    /// The meaning of a home script's exit codes; 75 asks for another attempt.
    public static let provisioning = ExitProfile(
        name: "provisioning",
        meanings: Dictionary(
            uniqueKeysWithValues: ProvisioningExitCode.allCases.map { code in
                (code.rawValue, Meaning(code == .success ? .success : .failed, title: code.name))
            }))
}

extension FileTrust {
    /// Refuses a file that others could change (specification: rows.md L2). It blocks on the file system.
    /// - Parameters:
    ///   - setting: the setting that names the file, or a program's name.
    ///   - code: of the failure.
    /// - Throws: class configuration, or shortage when the file could not be examined because of one.
    package static func demand(
        _ path: FilePath, as kind: Kind = .program, setting: String, code: ProvisioningExitCode
    ) throws(ProvisioningFailure) {
        do {
            try check(path, as: kind)
        } catch {
            throw ProvisioningFailure(
                code, error.failureClass, reason: "\(setting) is refused: \(error.finding)",
                hint: error.isAbsent ? "put it there, or correct \(setting)" : error.hint)
        }
    }
}

extension RunningAttempt {
    /// Runs a program for an account, within the current step.
    /// - Parameters:
    ///   - code: of the failure when it cannot be started.
    ///   - hint: how to fix that.
    /// - Throws: `ProvisioningFailure` when it could not be started, `CancellationError` when the daemon stops.
    public func run(
        _ invocation: ScriptInvocation, profile: ExitProfile = .posix, code: ProvisioningExitCode, hint: String
    ) async throws -> ScriptResult {
        let result: ScriptResult
        do throws(ScriptError) {
            result = try await run(invocation, profile: profile).result
        } catch {
            if error.code == .cancelled { throw CancellationError() }
            guard error.failureClass == .shortage else {
                throw ProvisioningFailure(code, error.failureClass, reason: "\(error)", hint: hint)
            }
            throw ProvisioningFailure(code, .shortage, reason: error.finding, hint: error.hint)
        }
        if result.cause == .cancellation { throw CancellationError() }
        return result
    }
}

extension ScriptResult {
    /// How the program failed; nil after success.
    package var complaint: String? {
        switch (cause, termination) {
        case (.timeLimit, _): "was ended after its time limit"
        case (.cancellation, _): "was ended because the daemon stops"
        case (.itself, .exited(code: 0)): nil
        case (.itself, .exited(let code)): "ended with exit code \(code)"
        case (.itself, .signaled(let number)): "was killed by signal \(number)"
        case (.itself, .unknown): "ended with \(termination)"
        }
    }

    /// The end of the output, as text for a message.
    package var outputTail: String {
        let bytes =
            output.tail.isEmpty ? output.head : output.head.suffix(max(0, 2000 - output.tail.count)) + output.tail
        let text = String(decoding: bytes.suffix(2000), as: UTF8.self)
        let scalars = text.unicodeScalars.map {
            OneLine.mustBeEscaped($0) && $0 != "\n" && $0 != "\t" ? "\u{fffd}" : $0
        }
        return String(String.UnicodeScalarView(scalars))
    }
}

extension String {
    /// A value of an entry for a message: in quotation marks, to show blanks and control characters, and cut, since it
    /// may be of any length.
    package var quotedValue: String { String(reflecting: OneLine.cut(self, to: 200)) }
}

extension Unicode.Scalar {
    /// C0, DEL and C1, and two separators that some programs treat as line ends.
    package var isControl: Bool {
        value < 0x20 || (0x7f...0x9f).contains(value) || value == 0x2028 || value == 0x2029
    }
}

extension [String] {
    /// A command, the program first, for the output of a dry run: `run PROGRAM ARGUMENT…`, quoted for a shell, and a line for each variable.
    package func commandText(environment: [String: String]) -> String {
        let command = "run " + map(\.shellWord).joined(separator: " ")
        let variables = environment.sorted { $0.key < $1.key }.map { "  \($0.key)=\($0.value.shellWord)" }
        return ([command] + variables).joined(separator: "\n")
    }
}
