public import Testing

/// The error of a wait that was in vain; the test's issue says what for.
public struct DeadlinePassed: Error {
    /// For waits of a test's own making.
    public init() {}
}

/// Waits until a condition holds. The deadline only ends a test that has failed.
///
/// - Parameters:
///   - what: what is waited for, in the words of the failure.
///   - limit: generous, since machines are shared and slow.
public func eventually(
    _ what: @autoclosure () -> String = "the condition holds", within limit: Duration = .seconds(300),
    sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < deadline else {
            Issue.record("not within \(limit): \(what())", sourceLocation: sourceLocation)
            throw DeadlinePassed()
        }
        try await Task.sleep(for: .milliseconds(5))
    }
}
