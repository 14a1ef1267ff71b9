import Subprocess
import SystemPackage

/// Runs a program to its end.
enum Tool {
    private static let environment: [Environment.Key: String] = [
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C",
    ]

    /// - Throws: with what it said last, unless it ends with 0.
    /// - Returns: what it wrote, standard error included where asked for.
    @discardableResult
    static func run(
        _ program: FilePath, _ arguments: [String] = [], environment: [String: String] = [:], merging: Bool = false
    ) async throws -> String {
        let environment = Self.environment.merging(
            environment.map { (Environment.Key(stringLiteral: $0.key), $0.value) }
        ) { _, given in given }
        var platform = PlatformOptions()
        platform.teardownSequence = [.gracefulShutDown(allowedDurationToNextStep: .seconds(2))]
        let result = try await Subprocess.run(
            .path(program), arguments: Arguments(arguments), environment: .custom(environment),
            platformOptions: platform,
            output: .string(limit: 1 << 20), error: .string(limit: 1 << 20))
        try Task.checkCancellation()
        let (said, complaint) = (result.standardOutput, result.standardError)
        guard result.terminationStatus.isSuccess else {
            throw BenchFailure("\(program) failed (\(result.terminationStatus)): \(complaint.suffix(300))")
        }
        return merging ? said + complaint : said
    }

    /// Runs a program that reads what the closure gives, until that is nil.
    static func feed(
        _ program: FilePath, _ arguments: [String], with next: () throws -> [UInt8]?
    ) async throws {
        var platform = PlatformOptions()
        platform.teardownSequence = [.gracefulShutDown(allowedDurationToNextStep: .seconds(2))]
        let result = try await Subprocess.run(
            .path(program), arguments: Arguments(arguments),
            environment: .custom(environment), platformOptions: platform,
            input: .inputWriter, output: .discarded, error: .string(limit: 1 << 20)
        ) { execution in
            do {
                while let bytes = try next() { _ = try await execution.standardInputWriter.write(bytes) }
            } catch is SubprocessError {
                // The program has ended before it has read all: its exit status says why.
            }
            try await execution.standardInputWriter.finish()
        }
        try Task.checkCancellation()
        guard result.terminationStatus.isSuccess else {
            throw BenchFailure("\(program) failed (\(result.terminationStatus)): \(result.standardError.suffix(300))")
        }
    }
}
