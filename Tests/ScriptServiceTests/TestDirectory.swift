import LDAP
import Foundation
import Glibc
import JobCore
import Provisioning
import SystemPackage
import TestSupport

@testable import ScriptService

/// The repository of this file.
let repository = FilePath(#filePath).removingLastComponent().removingLastComponent().removingLastComponent()

/// A directory of a test's own, gone with the last who holds it.
final class TestDirectory: Sendable {
    let path: FilePath

    init() throws {
        var template = Array("/tmp/script-service-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
        path = FilePath(String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self))
        guard chmod(path.string, 0o755) == 0 else { throw Errno(rawValue: errno) }
    }

    deinit { try? FileManager.default.removeItem(atPath: path.string) }

    func text(_ name: String) throws -> String {
        try String(contentsOfFile: path.appending(name).string, encoding: .utf8)
    }

    func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: path.appending(name).string) }

    @discardableResult
    func write(_ text: String, to name: String, mode: mode_t = 0o644) throws -> FilePath {
        let file = path.appending(name)
        try Data(text.utf8).write(to: URL(fileURLWithPath: file.string))
        try makeExecutable(file.string, mode: mode)
        return file
    }

    /// A script of one's own, executable. `$directory` is this directory.
    func script(_ body: String, name: String = "script.sh", mode: mode_t = 0o755) throws -> FilePath {
        try write("#!/bin/bash\nset -eu\ndirectory='\(path)'\n" + body + "\n", to: name, mode: mode)
    }

    /// Settings with one script for all three operations.
    func configuration(
        _ body: String, _ change: (inout ScriptServiceConfiguration) -> Void = { _ in }
    ) throws -> ScriptServiceConfiguration {
        let script = try script(body)
        var configuration = ScriptServiceConfiguration()
        (configuration.add, configuration.modify, configuration.delete) = (script, script, script)
        configuration.attributes = []
        configuration.timeLimit = .seconds(30)
        configuration.grace = .seconds(1)
        change(&configuration)
        return configuration
    }
}

/// A person, as many directories have them.
func person(_ name: String = "jane", _ attributes: [AttributeName: [AttributeValue]] = [:]) -> Entry {
    var entry = Entry(dn: DN.root.appending("ou", "people").appending("uid", name))
    entry["uid"] = [AttributeValue(name)]
    for (attribute, values) in attributes { entry[attribute] = values }
    return entry
}

extension ScriptServiceConfiguration {
    private func request(_ operation: Provisioning.Operation, _ entry: Entry, attempt: Int) -> ProvisioningRequest {
        ProvisioningRequest(operation: operation, entry: entry, job: JobID(17), attempt: attempt)
    }

    func plan(_ operation: Provisioning.Operation, _ entry: Entry) async throws -> [any ProvisioningStep] {
        try await ScriptService(configuration: self).plan(request(operation, entry, attempt: 1))
    }

    /// Runs the steps of a plan, as the engine does.
    func carryOut(
        _ operation: Provisioning.Operation = .add, _ entry: Entry = person(), attempt: Int = 1,
        scripts: ScriptRunner = ScriptRunner()
    ) async throws {
        let service = ScriptService(configuration: self)
        for step in try await service.plan(request(operation, entry, attempt: attempt)) {
            try await step.perform(in: .alone(attempt, scripts: scripts))
        }
    }

    /// The failure of a request; nil: it succeeded.
    func failure(
        _ operation: Provisioning.Operation = .add, _ entry: Entry = person(), scripts: ScriptRunner = ScriptRunner()
    ) async throws -> ProvisioningFailure? {
        do {
            try await carryOut(operation, entry, scripts: scripts)
            return nil
        } catch let failure as ProvisioningFailure {
            return failure
        }
    }
}
