package import LDAP
import EventLoop
import JobCore
import Logging
package import Provisioning
import SystemPackage

/// Provisions any entries in LDAP by three scripts of the site: add, modify and delete.
///
/// The contract with a script:
/// - It is run as `SCRIPT NAME`, without a shell. NAME is the entry's `uid` if it has exactly one, else the first value of its RDN: 1 to 255
///   bytes of text without control characters that does not begin with a hyphen. It may contain `/`.
/// - Its environment is PROV_ACTION (add, modify, delete), PROV_JOB_ID, PROV_ATTEMPT, PROV_DN, the reporter's variables, PATH, LANG and LC_ALL,
///   and the variables of ``EntryVariables`` for each attribute of the settings; nothing else.
/// - It must be idempotent: after a failure or a crash the same operation is run again.
/// - Its exit code is read by the exit profile of the settings. Success and warnings: done. A retryable code: another attempt.
///   1 to 7 of the profile `provisioning`: that code on the entry. Anything else, including signals and the time limit: code 1.
///
/// Scripts for one NAME never run at the same time. No other entry of this daemon may have a uid that is a NAME.
///
/// An operation without a script succeeds and does nothing.
/// Errors: code 1 for an entry whose name or values cannot be passed, or whose uid another entry has, code 3 for a script that is missing,
/// cannot be started or could be written by others.
package struct ScriptService: ProvisioningService {
    package let configuration: ScriptServiceConfiguration

    package init(configuration: ScriptServiceConfiguration) { self.configuration = configuration }

    package var requestedAttributes: [AttributeName] { [Entry.nameAttribute] + configuration.attributes }

    /// A uid that is the NAME for the scripts identifies what they make.
    package var uniqueAttribute: AttributeName? { Entry.nameAttribute }
    /// None for a NAME from the DN, which may occur in two branches.
    package func uniqueValues(of entry: Entry, for operation: Operation) -> [AttributeName: [AttributeValue]] {
        let uids = entry[Entry.nameAttribute]
        return uids.count == 1 ? [Entry.nameAttribute: uids] : [:]
    }
    /// The scripts are not called for others.
    package var isUniqueAmongAll: Bool { false }
    /// NAME, wherever it is from.
    package func exclusionNames(of entry: Entry) -> [String] { [entry.accountName] }

    package func plan(_ request: ProvisioningRequest) async throws(ProvisioningFailure) -> [any ProvisioningStep] {
        if let problem = configuration.problem { throw problem }
        guard let script = configuration.script(for: request.operation) else {
            return [NothingStep(operation: request.operation)]
        }
        let step = try ScriptStep(script: script, request: request, configuration: configuration)
        try await step.checkPermissions()
        return [step]
    }
}

/// The plan of an operation without a script, for the dry run.
struct NothingStep: ProvisioningStep {
    let operation: Operation
    var name: String { "no script" }
    var preview: String { "nothing: \(operation.setting) is empty" }
    func perform(in attempt: RunningAttempt) async throws {}
}

/// Runs the script of an operation for an entry; the contract is in ``ScriptService``.
struct ScriptStep: ProvisioningStep {
    let script: FilePath
    let operation: Operation
    let job: JobID
    let entryName: String
    let configuration: ScriptServiceConfiguration
    private let demandUnique: @Sendable () async throws -> Void
    private let invocation: ScriptInvocation

    /// - Throws: code 1 for an entry whose name or values cannot be passed.
    init(
        script: FilePath, request: ProvisioningRequest, configuration: ScriptServiceConfiguration
    ) throws(ProvisioningFailure) {
        self.script = script
        self.configuration = configuration
        operation = request.operation
        job = request.job
        demandUnique = request.demandUnique
        entryName = try Self.name(of: request.entry)
        var environment = try EntryVariables(request.entry, attributes: configuration.attributes).values
        environment.merge(configuration.baseEnvironment) { _, own in own }
        environment["PROV_ACTION"] = operation.rawValue
        environment["PROV_JOB_ID"] = "\(request.job)"
        environment["PROV_ATTEMPT"] = String(request.attempt)
        environment["PROV_DN"] = "\(request.entry.dn)"
        invocation = ScriptInvocation(
            executable: script, arguments: [entryName], environment: environment,
            timeLimit: configuration.timeLimit, grace: configuration.grace)
    }

    var name: String { "\(operation) script" }

    var preview: String {
        ([script.string] + invocation.arguments).commandText(environment: invocation.environment)
    }

    func perform(in attempt: RunningAttempt) async throws {
        try await checkPermissions()
        var invocation = invocation
        invocation.user = try await user()
        if operation == .delete { try await demandUnique() }
        let result = try await attempt.run(
            invocation, profile: configuration.exitProfile, code: .runtimeRequirementNotSatisfied,
            hint: "correct \(operation.setting), or the script's first line")
        let reading = configuration.exitProfile.reading(of: result)
        if let failure = failure(result, reading) { throw failure }
        if reading.result == .warnings {
            Logger.current.warning(
                "\(script) \(entryName): \(reading)", metadata: ["output": "\(result.outputTail)"])
        }
    }

    private func user() async throws(ProvisioningFailure) -> ScriptUser? {
        guard let name = configuration.user else { return nil }
        do throws(ScriptUserError) {
            return try await .named(name)
        } catch {
            throw ProvisioningFailure(
                .runtimeRequirementNotSatisfied, error.failureClass, reason: "RUN_AS: \(error)",
                hint: error.failureClass == .configuration
                    ? "correct RUN_AS in [Script], or the system's user database" : error.hint)
        }
    }

    /// The result for the entry; nil: the work is done.
    private func failure(_ result: ScriptResult, _ reading: ExitReading) -> ProvisioningFailure? {
        guard !reading.result.isSuccess else { return nil }
        let isLate = result.cause == .timeLimit
        let words = isLate ? "was ended after its time limit" : "ended as \(reading)"
        return ProvisioningFailure(
            Self.code(of: reading, isByItself: result.cause == .itself), reading.failureClass ?? .permanent,
            reason: "\(script) \(operation) \(entryName) \(words)",
            hint: result.failureHint(limit: "TIMEOUT", job: job),
            output: result.outputTail)
    }

    /// Only the codes of the profile `provisioning` are those of entries.
    private static func code(of reading: ExitReading, isByItself: Bool) -> ProvisioningExitCode {
        guard isByItself, reading.profile == ExitProfile.provisioning.name,
            case .exited(let code) = reading.termination
        else { return .undefinedError }
        return ProvisioningExitCode(rawValue: code) ?? .undefinedError
    }

    /// On a thread for blocking work.
    func checkPermissions() async throws(ProvisioningFailure) {
        let (script, setting) = (script, operation.setting)
        try await BlockingWork.run { () throws(ProvisioningFailure) in
            try FileTrust.demand(script, setting: setting, code: .runtimeRequirementNotSatisfied)
        }
    }

    // MARK: - The entry's name

    /// The longest name, in bytes of UTF-8, which is that of a file.
    private static let longestName = 255

    /// - Throws: code 1 for a name that could be taken for an option, or break a line.
    static func name(of entry: Entry) throws(ProvisioningFailure) -> String {
        func refusal(_ reason: String) -> ProvisioningFailure {
            ProvisioningFailure(
                .undefinedError, reason: "\(entry.dn) \(reason)",
                hint: "give the entry one uid of 1 to \(longestName) bytes of plain text that begins with no hyphen")
        }
        guard let text = entry.nameValue?.text, !text.isEmpty else {
            throw refusal("has no name that is text, neither in uid nor in its relative name")
        }
        guard !text.unicodeScalars.contains(where: \.isControl) else {
            throw refusal("has a control character in its name \(text.quotedValue)")
        }
        guard !text.hasPrefix("-") else {
            throw refusal("has the name \(text.quotedValue), which a program could take for an option")
        }
        guard text.utf8.count <= longestName else {
            throw refusal("has a name of \(text.utf8.count) bytes, and scripts are given \(longestName) at most")
        }
        return text
    }
}
