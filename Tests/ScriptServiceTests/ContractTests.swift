import LDAP
import Foundation
import JobCore
import Provisioning
import SystemPackage
import TestSupport
import Testing

@testable import ScriptService

/// What a script gets, and that it gets nothing else.
@Suite struct ContractTests {
    /// Writes arguments and environment down, each ended by NUL.
    private static let notes =
        "printf '%s\\0' \"$#\" \"$@\" > $directory/arguments; /usr/bin/env -0 > $directory/environment"

    private func fields(_ directory: TestDirectory, _ name: String) throws -> [String] {
        try directory.text(name).split(separator: "\0", omittingEmptySubsequences: false).dropLast().map(String.init)
    }

    /// Without what the shell sets by itself.
    private func environment(_ directory: TestDirectory) throws -> [String: String] {
        var variables: [String: String] = [:]
        for field in try fields(directory, "environment") {
            let parts = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            if !["PWD", "SHLVL", "_"].contains(parts[0]) { variables[parts[0]] = parts[1] }
        }
        return variables
    }

    @Test("a script gets the entry's name, and just the variables of the contract, for each operation")
    func contract() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration(Self.notes)
        let entry = person("jane", ["userPassword": ["secret"], "mail": ["jane@example.org"]])
        for (operation, attempt) in [(Provisioning.Operation.add, 1), (.modify, 2), (.delete, 3)] {
            try await configuration.carryOut(operation, entry, attempt: attempt)
            #expect(try fields(directory, "arguments") == ["1", "jane"])
            #expect(
                try environment(directory) == [
                    "PROV_ACTION": operation.rawValue, "PROV_JOB_ID": "17", "PROV_ATTEMPT": "\(attempt)",
                    "PROV_DN": "uid=jane,ou=people", "LANG": "C", "LC_ALL": "C",
                    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                ])
        }
    }

    @Test("only attributes in the settings are passed, with all values")
    func attributes() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration(Self.notes) {
            $0.attributes = ["cn", "mail", "description", "street", "cn;lang-de", "1.2.840", "jpegPhoto"]
        }
        try await configuration.carryOut(
            .add,
            person(
                "jane",
                [
                    "cn": ["Jane"], "mail": ["a@example.org", "b@example.org"],
                    "description": ["two\nlines\tand a tab"],
                    "cn;lang-de": ["$(id) `id` 'x"], "jpegPhoto": [AttributeValue(bytes: [0, 0xff, 0x10])],
                    "1.2.840": ["", "bell\u{7}"], "userPassword": ["secret"],
                ]))
        let variables = try environment(directory).filter { $0.key.hasPrefix("PROV_ATTR_") }
        #expect(
            variables == [
                "PROV_ATTR_CN": "Jane", "PROV_ATTR_CN_1": "Jane", "PROV_ATTR_CN_COUNT": "1",
                "PROV_ATTR_MAIL_1": "a@example.org", "PROV_ATTR_MAIL_2": "b@example.org", "PROV_ATTR_MAIL_COUNT": "2",
                "PROV_ATTR_DESCRIPTION": "two\nlines\tand a tab", "PROV_ATTR_DESCRIPTION_1": "two\nlines\tand a tab",
                "PROV_ATTR_DESCRIPTION_COUNT": "1", "PROV_ATTR_STREET_COUNT": "0",
                "PROV_ATTR_CN_LANG_DE": "$(id) `id` 'x", "PROV_ATTR_CN_LANG_DE_1": "$(id) `id` 'x",
                "PROV_ATTR_CN_LANG_DE_COUNT": "1", "PROV_ATTR_JPEGPHOTO_BASE64": "AP8Q",
                "PROV_ATTR_JPEGPHOTO_1_BASE64": "AP8Q", "PROV_ATTR_JPEGPHOTO_COUNT": "1",
                "PROV_ATTR_1_2_840_1": "", "PROV_ATTR_1_2_840_2_BASE64": "YmVsbAc=", "PROV_ATTR_1_2_840_COUNT": "2",
            ])
    }

    @Test(
        "attributes whose variables would have the same name are refused, and both are named",
        arguments: [
            ("x", "x-1"), ("x-count", "x"), ("x", "x;base64"), ("a-b", "a;b"), ("x", "x-12-base64"), ("mail", "MAIL"),
        ] as [(AttributeName, AttributeName)])
    func overlap(first: AttributeName, second: AttributeName) async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration("touch $directory/ran") {
            $0.attributes = ["cn", first, second]
        }
        let failure = try await configuration.failure()
        #expect(failure?.failureClass == .configuration)
        #expect(failure?.reason.contains("\(first) and \(second)") == true, "\(failure?.reason ?? "none")")
        #expect(!directory.exists("ran"))
    }

    @Test("attributes with similar names are accepted")
    func alike() {
        var configuration = ScriptServiceConfiguration()
        configuration.attributes = ["mail", "mailHost", "mail-host", "cn", "cn;lang-de", "x", "x-1a"]
        #expect(configuration.problem == nil)
    }

    @Test("an operation without a script succeeds and does nothing, and the plan says so")
    func nothing() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration("touch $directory/ran") { $0.modify = nil }
        let plan = try await configuration.plan(.modify, person())
        #expect(plan.map(\.preview) == ["nothing: MODIFY is empty"])
        try await configuration.carryOut(.modify)
        #expect(!directory.exists("ran"))
    }

    @Test("a dry run shows the exact arguments and environment, and runs nothing")
    func preview() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration("touch $directory/ran") { $0.attributes = ["cn"] }
        let plan = try await configuration.plan(.add, person("jane", ["cn": ["Jane O'Hara"]]))
        #expect(
            plan.map(\.preview) == [
                """
                run \(directory.path)/script.sh jane
                  LANG=C
                  LC_ALL=C
                  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
                  PROV_ACTION=add
                  PROV_ATTEMPT=1
                  PROV_ATTR_CN='Jane O'\\''Hara'
                  PROV_ATTR_CN_1='Jane O'\\''Hara'
                  PROV_ATTR_CN_COUNT=1
                  PROV_DN=uid=jane,ou=people
                  PROV_JOB_ID=17
                """
            ])
        #expect(plan.map(\.name) == ["add script"])
        #expect(!directory.exists("ran"))
    }
}
