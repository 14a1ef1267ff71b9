import Glibc
import SystemPackage

extension DirectorySandbox {
    /// Starts a server in a new folder below the temporary directory, hands it out, and ends and removes it whatever
    /// became of it meanwhile.
    ///
    /// - Parameters:
    ///   - options: what the server shall be; for tests it ends with the process.
    ///   - body: what is done with it. Its error is thrown on, after the server has ended.
    /// - Returns: what `body` returns.
    public static func temporary<Result>(
        options: SandboxOptions = .testing, _ body: (DirectorySandbox) async throws -> Result
    ) async throws -> Result {
        let sandbox = try await start(in: try temporaryFolder(), options: options)
        let result: Result
        do {
            result = try await body(sandbox)
        } catch {
            try await sandbox.stop()
            throw error
        }
        try await sandbox.stop()
        return result
    }

    private static func temporaryFolder() throws(SandboxError) -> FilePath {
        let parent = getenv("TMPDIR").map { FilePath(platformString: $0) } ?? "/tmp"
        return try SandboxFolder.makeUnique(in: parent)
    }
}
