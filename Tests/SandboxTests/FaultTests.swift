import Sandbox
import Foundation
import Glibc
import SystemPackage
import TestSupport
import Testing

/// What happens when the server, its parent or its configuration fails.
@Suite struct FaultTests {
    @Test func `a killed server can be restarted with its data, addresses and passwords`() async throws {
        var options = SandboxOptions.testing
        options.loopbackPort = 0
        try await LDAPSandbox.temporary(options: options) { sandbox in
            try await sandbox.load(accountLDIF(3_723_707))
            let (uri, port, process) = (sandbox.uri, sandbox.loopbackURI, sandbox.processID)
            try await sandbox.kill()
            #expect(!sandbox.isRunning)
            #expect(try SandboxStatus.of(sandbox.directory) == .stopped)
            #expect(try await ldap("ldapwhoami", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword, []).code == 255)
            try await sandbox.restart()
            #expect(sandbox.uri == uri && sandbox.loopbackURI == port && sandbox.processID != process)
            let found = try await ldap(
                "ldapsearch", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword, uri: port,
                ["-LLL", "-b", accountDN(3_723_707), "-s", "base", "uid"])
            #expect(found.output.contains("uid: 3723707\n"))
        }
    }

    @Test func `a paused server does not answer until it is resumed`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            sandbox.pause()
            try await eventually("the status says that it is paused") {
                try SandboxStatus.of(sandbox.directory)
                    == .running(processID: sandbox.processID, paused: true, uris: [sandbox.uri])
            }
            let silent = try await command(
                "/usr/bin/timeout",
                ["0.5", "ldapwhoami", "-x", "-H", sandbox.uri, "-D", sandbox.daemonDN, "-w", sandbox.daemonPassword])
            #expect(silent.code == 124, "timeout ends a program that still waits with 124")
            sandbox.resume()
            #expect(try await ldap("ldapwhoami", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword, []).code == 0)
        }
    }

    @Test func `a paused server can be stopped`() async throws {
        try await withDirectory { directory in
            let sandbox = try await LDAPSandbox.start(in: directory.appending("s"), options: .testing)
            sandbox.pause()
            try await sandbox.stop()
            #expect(!sandbox.isRunning)
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory.string).isEmpty)
        }
    }

    /// A process that starts a sandbox and is killed as soon as it runs.
    private func parentThatIsKilled(in place: FilePath, endsWithParent: Bool) async {
        let path = place.string
        await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String, tied = endsWithParent as Bool] in
            var options = SandboxOptions()
            options.endsWithParent = tied
            let sandbox = try await LDAPSandbox.start(in: FilePath(path), options: options)
            guard sandbox.isRunning else { exit(1) }
            raise(SIGKILL)
        }
    }

    @Test func `a server that ends with its parent does not outlive a parent that is killed`() async throws {
        try await withDirectory { directory in
            let place = directory.appending("s")
            await parentThatIsKilled(in: place, endsWithParent: true)
            #expect(FileManager.default.fileExists(atPath: place.string))
            try await expectNoProcess(naming: place)
        }
    }

    @Test func `a server that does not end with its parent outlives it`() async throws {
        try await withDirectory { directory in
            let place = directory.appending("s")
            await parentThatIsKilled(in: place, endsWithParent: false)
            let sandbox = try LDAPSandbox.running(in: place)
            #expect(try await ldap("ldapwhoami", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword, []).code == 0)
            try await sandbox.stop()
            try await expectNoProcess(naming: place)
        }
    }

    @Test func `a server that ends with its parent ends when its last owner releases it`() async throws {
        try await withDirectory { directory in
            let place = directory.appending("s")
            let process = try await LDAPSandbox.start(in: place, options: .testing).processID
            #expect(process > 0)
            try await expectNoProcess(naming: place)
        }
    }

    @Test func `a port in use is named in the error, and no files or processes are left`() async throws {
        var options = SandboxOptions.testing
        options.loopbackPort = 0
        try await LDAPSandbox.temporary(options: options) { first in
            let uri = try #require(first.loopbackURI)
            try await withDirectory { directory in
                var same = SandboxOptions.testing
                same.loopbackPort = Int(try #require(uri.split(separator: ":").last))
                let error = try await refusal(in: directory.appending("s"), same)
                #expect(error.code == .portInUse && "\(error)".contains(uri), "\(error)")
                #expect(try FileManager.default.contentsOfDirectory(atPath: directory.string).isEmpty)
                try await expectNoProcess(naming: directory)
            }
        }
    }

    @Test(arguments: [-1, 65536]) func `a number that is no port is refused`(port: Int) async throws {
        try await withDirectory { directory in
            var options = SandboxOptions.testing
            options.loopbackPort = port
            let error = try await refusal(in: directory.appending("s"), options)
            #expect(error.code == .option && "\(error)".contains("\(port)"))
        }
    }

    @Test func `a wrong line is reported with slapd's message, and no files or processes are left`() async throws {
        try await withDirectory { directory in
            var options = SandboxOptions.testing
            options.databaseLines = ["nonsense yes"]
            let error = try await refusal(in: directory.appending("s"), options)
            #expect(error.code == .serverFailed && "\(error)".contains("nonsense"), "\(error)")
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory.string).isEmpty)
        }
    }

    @Test func `a start again with a wrong line keeps the data`() async throws {
        try await withDirectory { directory in
            let place = directory.appending("s")
            let first = try await LDAPSandbox.start(in: place, options: .testing)
            try await first.stop(keepingData: true)
            var options = SandboxOptions.testing
            options.databaseLines = ["nonsense yes"]
            let error = try await refusal(in: place, options)
            #expect(error.code == .serverFailed && "\(error)".contains("nonsense"), "\(error)")
            let second = try await LDAPSandbox.start(in: place, options: .testing)
            #expect(try await ldap("ldapwhoami", second, as: first.daemonDN, first.daemonPassword, []).code == 0)
            try await second.stop()
        }
    }

    @Test func `missing files are an error with the directories that were searched`() async throws {
        try await withDirectory { directory in
            var options = SandboxOptions.testing
            options.pieces = directory
            let error = try await refusal(in: directory.appending("s"), options)
            #expect(error.code == .pieces && "\(error)".contains(directory.string))
            #expect(!FileManager.default.fileExists(atPath: directory.appending("s").string))
        }
    }

    @Test func `a start that is cancelled leaves no process behind`() async throws {
        try await withDirectory { directory in
            let place = directory.appending("s")
            let start = Task { try await LDAPSandbox.start(in: place) }
            start.cancel()
            let outcome = await start.result
            if case .success(let sandbox) = outcome { try await sandbox.stop() }
            try await expectNoProcess(naming: place)
        }
    }
}
