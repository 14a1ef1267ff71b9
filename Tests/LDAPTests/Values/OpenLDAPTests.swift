import LDAP
import Foundation
import TestSupport
import Testing

/// OpenLDAP's own parsers read what ours write, and ours read what they write.
@Suite("Compared with OpenLDAP's tools") struct OpenLDAPTests {
    @Test("ldapmodify reads the writer's output, value by value", arguments: 0..<5 as Range<UInt64>)
    func ldapmodify(_ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let records = (0..<40).map { _ in random.showableRecord() }
        let text = LDIFWriter.versionLine + LDIFWriter.comment("seed \(seed)") + records.map(LDIFWriter.text).joined()
        let file = FileManager.default.temporaryDirectory.appending(component: "\(UUID()).ldif")
        try text.write(to: file, atomically: false, encoding: .utf8)
        defer { try? FileManager.default.removeItem(at: file) }
        // -n: only read and show; nothing is connected to.
        let answer = try run("/usr/bin/ldapmodify", ["-n", "-v", "-a", "-f", file.path])
        #expect(answer.status == 0, "\(answer.errors)")
        #expect(answer.output == records.map(Self.shown).joined(), "seed \(seed)")
    }

    @Test("blanks and TABs before a value are no part of it, for ldapmodify and for us")
    func fill() throws {
        let text = """
            dn:\tcn=a,dc=x
            changetype:\tmodify
            replace:\tcn
            cn:\tone \t
            -
            add: sn
            sn: \t two
            -
            add: ou
            ou::\t YWJj
            -

            """
        let file = FileManager.default.temporaryDirectory.appending(component: "\(UUID()).ldif")
        try text.write(to: file, atomically: false, encoding: .utf8)
        defer { try? FileManager.default.removeItem(at: file) }
        let records = try readLDIF(text.utf8).map { try $0.get() }
        #expect(
            records.map(\.change) == [
                .modify([
                    Modification(.replace, "cn", ["one \t"]), Modification(.add, "sn", ["two"]),
                    Modification(.add, "ou", ["abc"]),
                ])
            ])
        let answer = try run("/usr/bin/ldapmodify", ["-n", "-v", "-f", file.path])
        #expect(answer.status == 0, "\(answer.errors)")
        #expect(answer.output == records.map(Self.shown).joined())
    }

    @Test("slapdn accepts our names, and its output is an equal name")
    func slapdn() throws {
        var random = SeededGenerator(seed: 7)
        let configuration = FileManager.default.temporaryDirectory.appending(component: "\(UUID()).conf")
        try "include /etc/ldap/schema/core.schema\n".write(to: configuration, atomically: false, encoding: .utf8)
        defer { try? FileManager.default.removeItem(at: configuration) }
        let special = Array(" ,+\"\\<>;=#aZéÄ界\t\u{7F}")
        let names = (0..<200).map { _ in
            DN(
                rdns: (0...2).map { _ in
                    let value = String(
                        (0...Int.random(in: 0...6, using: &random)).map { _ in
                            special.randomElement(using: &random) ?? "a"
                        })
                    let other = RDN.Assertion("sn", AttributeValue("x" + value))
                    return Bool.random(using: &random)
                        ? RDN(.init("cn", AttributeValue("a" + value)), [other]) : RDN("o", AttributeValue(value + "z"))
                })
        }
        for option in ["-P", "-N"] {
            let answer = try run(
                "/usr/sbin/slapdn", ["-f", configuration.path, option] + names.map(\.description))
            #expect(answer.status == 0, "\(answer.errors)")
            let written = answer.output.split(separator: "\n")
            #expect(written.count == names.count)
            for (line, name) in zip(written, names) {
                #expect(try DN(parsing: String(line)) == name, "\(name)")
            }
        }
    }
}

extension OpenLDAPTests {
    private struct Answer {
        let status: Int32
        let output: String
        let errors: String
    }

    private func run(_ program: String, _ arguments: [String]) throws -> Answer {
        try #require(
            FileManager.default.isExecutableFile(atPath: program), "\(program) is missing: install slapd, ldap-utils")
        let process = Process()
        process.executableURL = URL(filePath: program)
        process.arguments = arguments
        process.environment = ["LDAPNOINIT": "1"]
        // Files, not pipes: two pipes that are read one after the other can block the child.
        let files = ["output", "errors"].map {
            FileManager.default.temporaryDirectory.appending(component: "\(UUID()).\($0)")
        }
        defer { files.forEach { try? FileManager.default.removeItem(at: $0) } }
        for file in files { try Data().write(to: file) }
        process.standardOutput = try FileHandle(forWritingTo: files[0])
        process.standardError = try FileHandle(forWritingTo: files[1])
        try process.run()
        process.waitUntilExit()
        return Answer(
            status: process.terminationStatus, output: String(decoding: try Data(contentsOf: files[0]), as: UTF8.self),
            errors: String(decoding: try Data(contentsOf: files[1]), as: UTF8.self))
    }

    /// The output of `ldapmodify -n -v` for a record.
    private static func shown(_ record: LDIFRecord) -> String {
        func shown(_ action: String, _ name: AttributeName, _ values: [AttributeValue]) -> String {
            "\(action) \(name):\n"
                + values.map { value in
                    let isASCII = value.bytes.allSatisfy { $0 < 0x80 }
                    return "\t" + (isASCII ? value.text ?? "?" : "NOT ASCII (\(value.bytes.count) bytes)") + "\n"
                }.joined()
        }
        return switch record.change {
        case .content(let attributes), .add(let attributes):
            attributes.map { shown("add", $0.name, $0.values) }.joined() + "!adding new entry \"\(record.dn)\"\n\n"
        case .delete:
            "!deleting entry \"\(record.dn)\"\n\n"
        case .modify(let modifications):
            modifications.map { shown("\($0.action)", $0.attribute, $0.values) }.joined()
                + "!modifying entry \"\(record.dn)\"\n\n"
        case .rename(let newRDN, let deleteOldRDN, _):
            "!modifying rdn of entry \"\(record.dn)\"\n\tnew RDN: \"\(newRDN)\" "
                + "(\(deleteOldRDN ? "do not " : "")keep existing values)\n\n"
        }
    }
}

extension SeededGenerator {
    /// A record that ldapmodify shows in a form that can be told from any other: values of ASCII have no control
    /// characters, and no two modifications in a row are the same, since it gathers those. There is one control at
    /// most: OpenLDAP 2.5 refuses a record with two.
    fileprivate mutating func showableRecord() -> LDIFRecord {
        var record = record()
        record.controls = Array(record.controls.prefix(1))
        switch record.change {
        case .content(let attributes):
            record.change = .content(attributes.map { Attribute($0.name, showable($0.values)) })
        case .add(let attributes): record.change = .add(attributes.map { Attribute($0.name, showable($0.values)) })
        case .modify(let modifications):
            record.change = .modify(
                modifications.prefix(1).map { Modification($0.action, $0.attribute, showable($0.values)) })
        case .delete, .rename: break
        }
        return record
    }

    private func showable(_ values: [AttributeValue]) -> [AttributeValue] {
        values.map { value in
            let isASCII = value.bytes.allSatisfy { $0 < 0x80 }
            return isASCII ? AttributeValue(bytes: value.bytes.map { $0 < 0x20 ? 0x5F : $0 }) : value
        }
    }
}
