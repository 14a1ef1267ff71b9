import Foundation
import Testing

@testable import JobCore

@Suite struct JSONLineTests {
    private struct Everything: Codable, Equatable {
        enum Kind: String, Codable { case plain, odd = "odd \"one\"" }
        struct Part: Codable, Equatable { var name: String, numbers: [Int], inner: [String: [Bool]] }
        struct Nothing: Codable, Equatable {}

        var text = "tab\t, line\n, bell\u{7}, quote\", backslash\\, slash/, umlaut ü, emoji \u{1F600}, null\u{0}"
        var small = Int8.min
        var large = UInt64.max
        var negative = Int64.min
        var whole = 3.0
        var fraction = 0.1
        var tiny = 1e-300
        var float = Float(2.5)
        var yes = true
        var absent: Int?
        var present: Int? = 5
        var bytes = Data([0, 1, 254, 255])
        var kind = Kind.odd
        var parts = [
            Part(name: "a", numbers: [1, 2], inner: ["x": [true, false]]), Part(name: "", numbers: [], inner: [:]),
        ]
        var holes: [Int?] = [1, nil, 3]
        var table: [[String]] = [[], ["a", "b"]]
        var nothing = Nothing()
        var last = "end"
    }

    @Test("a decoder reads every kind of value as it was")
    func roundTrip() throws {
        let line = try JSONLine.encode(Everything())
        #expect(try JSONDecoder().decode(Everything.self, from: Data(line)) == Everything())
        #expect(!line.contains(UInt8(ascii: "\n")))
    }

    @Test(
        "members come in the order in which they are encoded; what is nil is left out; text is escaped as little as JSON demands"
    )
    func text() throws {
        struct Line: Encodable {
            var second = "a/b ü \u{1}", first = 1, none: Int?, empty: [Int] = [], object = [String: Int]()
        }
        #expect(
            String(decoding: try JSONLine.encode(Line()), as: UTF8.self)
                == #"{"second":"a/b ü \u0001","first":1,"empty":[],"object":{}}"#)
        #expect(String(decoding: try JSONLine.encode("x"), as: UTF8.self) == #""x""#)
        #expect(String(decoding: try JSONLine.encode([Int]()), as: UTF8.self) == "[]")
    }

    @Test("containers that are nested by hand are closed when their parent goes on")
    func nested() throws {
        struct Nested: Encodable {
            enum Key: String, CodingKey { case object, array, after, inner }
            func encode(to encoder: any Encoder) throws {
                var fields = encoder.container(keyedBy: Key.self)
                var object = fields.nestedContainer(keyedBy: Key.self, forKey: .object)
                try object.encode(1, forKey: .inner)
                var array = fields.nestedUnkeyedContainer(forKey: .array)
                try array.encode("a")
                var deep = array.nestedContainer(keyedBy: Key.self)
                try deep.encodeNil(forKey: .inner)
                try array.encode(2)
                try fields.encode(true, forKey: .after)
            }
        }
        #expect(
            String(decoding: try JSONLine.encode(Nested()), as: UTF8.self)
                == #"{"object":{"inner":1},"array":["a",{"inner":null},2],"after":true}"#)
    }

    @Test("a number that JSON has not is refused", arguments: [Double.nan, .infinity, -.infinity])
    func numbers(number: Double) { #expect(throws: EncodingError.self) { try JSONLine.encode(["x": number]) } }
}
