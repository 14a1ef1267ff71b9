import FoundationEssentials
import Glibc
import SystemPackage

extension LDAPSandbox {
    /// Starts a server in a new directory below the temporary directory, hands it out, and ends it whatever became of it
    /// meanwhile. The directory is removed with all that is in it, also what `body` has put there.
    ///
    /// - Parameters:
    ///   - options: what the server shall be; for tests it ends with the process.
    ///   - body: what is done with it. Its error is thrown on, after the server has ended.
    /// - Returns: what `body` returns.
    package static func temporary<Result>(
        options: SandboxOptions = .testing, _ body: (LDAPSandbox) async throws -> Result
    ) async throws -> Result {
        let parent = getenv("TMPDIR").map { FilePath(platformString: $0) } ?? "/tmp"
        let sandbox = try await start(in: try SandboxFiles.makeUnique(in: parent), options: options)
        let result: Result
        do {
            result = try await body(sandbox)
        } catch {
            try await sandbox.stopAndRemoveAll()
            throw error
        }
        try await sandbox.stopAndRemoveAll()
        return result
    }

    private func stopAndRemoveAll() async throws {
        try await stop()
        if access(directory.string, F_OK) == 0 { try FileManager.default.removeItem(atPath: directory.string) }
    }
}
