import EventLoop
import SystemPackage

/// Runs a program to its end.
enum Tool {
    private static let environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"]

    /// - Throws: with what it said last, unless it ends with 0.
    /// - Returns: what it wrote, standard error included where asked for.
    @discardableResult
    static func run(
        _ program: FilePath, _ arguments: [String] = [], environment: [String: String] = [:],
        input: ChildProcess.Input = .empty, merging: Bool = false
    ) async throws -> String {
        let outcome = try await ChildProcess.run(
            ChildProcess.Program(
                program, arguments, environment: Self.environment.merging(environment) { $1 }, in: "."),
            input: input, keeping: 1 << 20, grace: .seconds(2))
        let said = String(decoding: outcome.output, as: UTF8.self)
        let complaint = String(decoding: outcome.error, as: UTF8.self)
        guard outcome.termination == .exited(code: 0) else {
            throw BenchFailure("\(program) failed (\(outcome.termination)): \(complaint.suffix(300))")
        }
        return merging ? said + complaint : said
    }
}
