import ArgumentParser
import Daemon
import Sandbox
import Glibc
import JobCore
import SystemPackage

struct SandboxCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sandbox", abstract: "A private OpenLDAP server with settings to match, for trying out.",
        subcommands: [Start.self, Stop.self, Status.self])

    struct Directory: ParsableArguments {
        @Option(name: .customLong("directory"), help: "The sandbox's directory.", completion: .directory)
        var path = "sandbox"

        /// Absolute, since the server and the settings outlive this command.
        func resolve() throws -> FilePath {
            let path = FilePath(path)
            guard path.isRelative else { return path.lexicallyNormalized() }
            guard let here = getcwd(nil, 0) else {
                throw CommandFailure("the working directory is gone", hint: "change into another one")
            }
            defer { free(here) }
            return FilePath(platformString: here).pushing(path).lexicallyNormalized()
        }
    }

    struct Start: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Start a server, fill it with the example tree, and write settings for the daemon.")

        @OptionGroup var directory: Directory
        @Option(help: "Also listen on this port of 127.0.0.1.") var port: Int?
        @Flag(inversion: .prefixedNo, help: "Content Sync; without it the daemon has to poll.") var sync = true

        func run() async throws {
            var options = SandboxOptions()
            options.loopbackPort = port
            options.contentSync = sync
            let directory = try directory.resolve()
            do throws(RuntimeDirectoryError) {
                try RuntimeDirectory.prepare(directory, mode: 0o700)
            } catch {
                throw CommandFailure(
                    "\(error)", hint: "or choose another --directory; nothing was started", status: error.exitStatus)
            }
            let sandbox = try await CommandFailure.translatingSandbox {
                try await LDAPSandbox.start(in: SandboxSettings.server(in: directory), options: options)
            }
            let (settings, proposal) = try SandboxSettings(sandbox, in: directory).write()
            print(
                """
                directory  \(sandbox.uri)\(sandbox.loopbackURI.map { " \($0)" } ?? "")
                settings   \(settings)
                run        prov-backup-rsnapshot run -d -c \(settings.shellWord)
                load       prov-backup-rsnapshot ldif load --sandbox \(directory.shellWord) FILE…
                """)
            if let proposal {
                printError("\(settings) was changed and stays as it is; what it would be is in \(proposal)")
            }
        }
    }

    struct Stop: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Stop the server and remove its directory.")

        @OptionGroup var directory: Directory
        @Flag(help: "Stop the server only.") var keepData = false

        func run() async throws {
            let directory = try directory.resolve()
            let sandbox = try CommandFailure.translatingSandbox {
                try LDAPSandbox.running(in: SandboxSettings.server(in: directory))
            }
            // While the server runs, so that the command can be repeated where something stands in the way.
            if !keepData { try SandboxSettings.removeHomes(from: directory) }
            try await CommandFailure.translatingSandbox { try await sandbox.stop(keepingData: keepData) }
            if !keepData { try SandboxSettings.remove(from: directory) }
        }
    }

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Say whether a server runs there.")

        @OptionGroup var directory: Directory

        func run() async throws {
            let directory = try directory.resolve()
            switch try CommandFailure.translatingSandbox({ try SandboxStatus.of(SandboxSettings.server(in: directory)) }
            ) {
            case .absent: print("there is no sandbox in \(directory)")
            case .stopped: print("stopped; its data is there")
            case .running(let process, let isPaused, let uris):
                print("runs: process \(process)\(isPaused ? ", paused" : ""), \(uris.joined(separator: " "))")
            }
        }
    }
}
