import DirectoryModel
import Synchronization

/// What is being worked on, by the names that entries have for it, such as the uids of homes. An entry can be removed and added again, and what it
/// names stays: so a job holds the name as well as the entry.
public final class Exclusion: Sendable {
    private let held = Mutex<Set<String>>([])

    /// Nothing is worked on.
    public init() {}

    /// Does something while nobody else does anything with the same names.
    /// - Parameter names: values of the service's unique attribute, compared as `caseIgnoreMatch` does.
    /// - Returns: nil, and nothing is done, while another job has one of the names.
    public func holding<Result: Sendable>(
        _ names: [String], isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Result
    ) async rethrows -> Result? {
        let names = Set(names.map(\.caseIgnoreFolded))
        let isFree = held.withLock { held in
            guard held.isDisjoint(with: names) else { return false }
            held.formUnion(names)
            return true
        }
        guard isFree else { return nil }
        defer { held.withLock { $0.subtract(names) } }
        return try await body()
    }
}
