import DirectoryClient
import DirectoryModel
import DirectorySandbox
import TestSupport
import Testing

@Suite(.serialized, .timeLimit(.minutes(1)))
struct TransactionTests {
    private func withEntries(
        _ count: Int, _ body: (DirectorySandbox, DirectoryConnection) async throws -> Void
    ) async throws {
        try await withDirectory { (sandbox, connection) async throws in
            for number in 0..<count {
                let entry = Entry.test("\(number)")
                try await connection.add(entry)
            }
            try await body(sandbox, connection)
        }
    }

    private func titles(_ count: Int, _ connection: DirectoryConnection) async throws -> [String?] {
        var titles: [String?] = []
        for number in 0..<count {
            titles.append(try await connection.entry(at: .test("\(number)"), attributes: ["title"])?.text("title"))
        }
        return titles
    }

    private func member(_ number: Int, from old: AttributeValue = "open", to new: AttributeValue) -> TransactionMember {
        TransactionMember(.test("\(number)"), [.delete("title", old), .add("title", new)])
    }

    @Test func `many entries are changed at once, again and again on one connection`() async throws {
        try await withEntries(40) { (_, connection) async throws in
            #expect(
                try await connection.modify(inTransaction: (0..<40).map { member($0, to: "shut") }) == .committed)
            #expect(try await titles(40, connection) == Array(repeating: "shut", count: 40))
            #expect(
                try await connection.modify(inTransaction: (0..<40).map { member($0, from: "shut", to: "open") })
                    == .committed)
            #expect(try await titles(40, connection) == Array(repeating: "open", count: 40))
        }
    }

    @Test func `a member whose old value does not stand there is named, and nothing is changed`() async throws {
        try await withEntries(5) { (_, connection) async throws in
            var members = (0..<5).map { member($0, to: "shut") }
            members[3] = member(3, from: "elsewhere", to: "shut")
            let outcome = try await connection.modify(inTransaction: members)
            guard case .refused(member: 3, let error) = outcome else {
                Issue.record("\(outcome)")
                return
            }
            #expect(error.code == .noSuchAttribute)
            #expect(error.operation.contains("cn=3"))
            #expect(try await titles(5, connection) == Array(repeating: "open", count: 5))
            members.remove(at: 3)
            #expect(try await connection.modify(inTransaction: members) == .committed)
            #expect(try await titles(5, connection) == ["shut", "shut", "shut", "open", "shut"])
        }
    }

    @Test func `a member whose assertion does not hold, that is not there, or that no schema knows is named`()
        async throws
    {
        try await withEntries(3) { (_, connection) async throws in
            let wrong: [(TransactionMember, ResultCode)] = [
                (
                    TransactionMember(.test("1"), [.replace("title", "shut")], asserting: .equal("title", "ajar")),
                    .assertionFailed
                ),
                (TransactionMember(.test("nobody"), [.replace("title", "shut")]), .noSuchObject),
                (TransactionMember(.test("1"), [.replace("noSuchName", "shut")]), .undefinedAttributeType),
            ]
            for (refused, code) in wrong {
                let outcome = try await connection.modify(
                    inTransaction: [member(0, to: "shut"), refused, member(2, to: "shut")])
                guard case .refused(member: 1, let error) = outcome else {
                    Issue.record("\(code): \(outcome)")
                    continue
                }
                #expect(error.code == code)
                #expect(try await titles(3, connection) == ["open", "open", "open"])
            }
            #expect(try await connection.modify(inTransaction: [member(0, to: "shut")]) == .committed)
        }
    }

    @Test func `an assertion holds within a transaction`() async throws {
        try await withEntries(1) { (_, connection) async throws in
            let member = TransactionMember(.test("0"), [.replace("title", "shut")], asserting: .equal("title", "open"))
            #expect(try await connection.modify(inTransaction: [member]) == .committed)
            #expect(try await titles(1, connection) == ["shut"])
        }
    }

    @Test func `a cancelled transaction leaves nothing behind, and its connection closed or its changes whole`()
        async throws
    {
        try await withEntries(20) { (sandbox, connection) async throws in
            for round in 0..<20 {
                let own = try await sandbox.connect()
                let members = (0..<20).map {
                    TransactionMember(.test("\($0)"), [.replace("title", AttributeValue("\(round)"))])
                }
                let task = Task { try await own.modify(inTransaction: members) }
                for _ in 0..<(round * 20) { await Task.yield() }
                task.cancel()
                let result = await task.result
                let titles = Set(try await titles(20, connection))
                if case .success(.committed) = result {
                    #expect(titles == ["\(round)"])
                } else {
                    #expect(own.isClosed)
                    #expect(titles.count == 1)
                }
                own.close()
            }
        }
    }
}
