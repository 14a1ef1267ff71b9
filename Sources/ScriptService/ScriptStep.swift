import LDAP
import EventLoop
import JobCore
import Logging
import Provisioning
import SystemPackage

/// Runs the script of one operation for one entry, and reads its end; the contract stands at ``ScriptService``.
struct ScriptStep: ProvisioningStep {
    let script: FilePath
    let operation: Operation
    let entryName: EntryName
    let configuration: ScriptServiceConfiguration
    private let invocation: ScriptInvocation

    /// - Throws: code 1 for an entry whose name or values cannot be handed over.
    init(
        script: FilePath, request: ProvisioningRequest, configuration: ScriptServiceConfiguration
    ) throws(ProvisioningFailure) {
        self.script = script
        self.configuration = configuration
        operation = request.operation
        entryName = try EntryName(of: request.entry)
        var environment = try EntryVariables(request.entry, attributes: configuration.attributes).values
        environment.merge(configuration.baseEnvironment) { _, own in own }
        environment["PROV_ACTION"] = operation.rawValue
        environment["PROV_JOB_ID"] = "\(request.job)"
        environment["PROV_ATTEMPT"] = String(request.attempt)
        environment["PROV_DN"] = "\(request.entry.dn)"
        invocation = ScriptInvocation(
            executable: script, arguments: [entryName.text], environment: environment,
            timeLimit: configuration.timeLimit, grace: configuration.grace)
    }

    var name: String { "\(operation) script" }

    var preview: String {
        "\(CommandText([script.string] + invocation.arguments, environment: invocation.environment))"
    }

    func perform(in attempt: RunningAttempt) async throws {
        try await checkPermissions()
        var invocation = invocation
        invocation.user = try await user()
        let result = try await attempt.run(
            invocation, profile: configuration.exitProfile, code: .runtimeRequirementNotSatisfied,
            hint: "correct \(operation.setting), or the script's first line")
        let reading = configuration.exitProfile.reading(of: result)
        if let failure = failure(result, reading) { throw failure }
        if reading.result == .warnings {
            Logger.current.warning(
                "\(script) \(entryName.text): \(reading)", metadata: ["output": "\(result.outputTail)"])
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

    /// What goes onto the entry; nil when the work is done.
    private func failure(_ result: ScriptResult, _ reading: ExitReading) -> ProvisioningFailure? {
        guard !reading.result.isSuccess else { return nil }
        let isLate = result.cause == .timeLimit
        let words = isLate ? "was ended after its time limit" : "ended as \(reading)"
        return ProvisioningFailure(
            Self.code(of: reading, isByItself: result.cause == .itself), reading.failureClass ?? .permanent,
            reason: "\(script) \(operation) \(entryName.text) \(words)",
            hint: isLate
                ? "fix what the script waits for, or raise TIMEOUT"
                : "fix what its output names; it can be run by hand with the arguments that a dry run shows",
            output: result.outputTail)
    }

    /// Only the profile `provisioning` speaks of the codes that an entry can have.
    private static func code(of reading: ExitReading, isByItself: Bool) -> ProvisioningExitCode {
        guard isByItself, reading.profile == ExitProfile.provisioning.name,
            case .exited(let code) = reading.termination
        else { return .undefinedError }
        return ProvisioningExitCode(rawValue: code) ?? .undefinedError
    }

    /// The file systems are waited for, and the threads that all tasks share are not for waiting.
    func checkPermissions() async throws {
        let (script, setting) = (script, operation.setting)
        try await BlockingWork.run { _ in
            try FileTrust.demand(script, setting: setting, code: .runtimeRequirementNotSatisfied)
        }
    }
}
