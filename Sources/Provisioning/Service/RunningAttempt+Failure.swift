package import JobCore

extension RunningAttempt {
    /// Runs a program for an account, as the step that is under way.
    /// - Parameters:
    ///   - code: that of the failure when it cannot be started.
    ///   - cure: what mends that.
    /// - Throws: `ProvisioningFailure` when it could not be started, `CancellationError` when the daemon stops.
    package func run(
        _ invocation: ScriptInvocation, profile: ExitProfile = .posix, code: ProvisioningExitCode, cure: String
    ) async throws -> ScriptResult {
        let result: ScriptResult
        do throws(ScriptError) {
            result = try await run(invocation, profile: profile).result
        } catch {
            if error.code == .cancelled { throw CancellationError() }
            guard error.failureClass == .shortage else {
                throw ProvisioningFailure(code, error.failureClass, reason: "\(error)", cure: cure)
            }
            throw ProvisioningFailure(code, .shortage, reason: error.finding, cure: error.cure)
        }
        if result.cause == .cancellation { throw CancellationError() }
        return result
    }
}
