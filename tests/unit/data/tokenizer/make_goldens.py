#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make the tokenizers of this folder and what the Python package `tokenizers` (0.23.3) does with 150 texts.

usage: make_goldens.py [MODEL_DIR ...]

Trains one small tokenizer for each kind of pipeline, on sentences made here, and writes NAME.json (a
tokenizer.json) and NAME.golden.json: an array of [text, ids with special tokens, ids without, decoded ids with
special tokens, decoded without]. Of the last three, null stands for "the same as the one before" (the decoded text
is compared with the text itself), and nulls at the end are left out. A MODEL_DIR's tokenizer.json is taken as it
is, under the directory's name.
"""
import json, os, random, shutil, sys
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = os.path.dirname(os.path.abspath(__file__))
random.seed(7)
# sentences from small word lists, so that there are many merges
subj="The engine|A small cat|My neighbour|Nobody|The old teacher|Our team|She|He|They|It|Every student|The compiler|A quiet river|The north wind".split('|')
verb="writes|doesn't read|can't find|measures|has painted|won't break|opens|quantizes|is looking for|I'll admit it carries|they've hidden|you're holding".split('|')
obj="the red door|twenty-three apples|a letter|the answer|12 tokens|the number 2048|some water|its own tail|the window|a list of words|nothing at all|the café|naïve ideas|3.14 and 2.718".split('|')
tail=[".","!","?",", slowly.","; then it rests."," (again)."," -- twice.",":\n",".\n\n","...",".  ","\t# note\n"]
other=["Привет, мир! Как дела?","你好，世界。今天天气很好。","こんにちは世界","안녕하세요 세계","مرحبا بالعالم","שלום עולם","Ελληνικά γράμματα","ça va très bien, où es-tu?","Größe und Straße","नमस्ते दुनिया","ภาษาไทย","e\u0301te\u0301 re\u0301sume\u0301","for (int i = 0; i < n; i++) {\n    x[i] += 1;\n}\n","def f(x):\n    return x ** 2\n","https://example.org/path?q=1","😀 😃 👍🏽 👨‍👩‍👧","<html><body>text</body></html>"]
lines=[]
for i in range(4000):
    lines.append(random.choice(subj)+' '+random.choice(verb)+' '+random.choice(obj)+random.choice(tail))
    if i%6==0: lines.append(random.choice(other))
LL3=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QW=LL3.replace(r'\p{N}{1,3}',r'\p{N}')
O200=r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DS=r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PT=pre_tokenizers; S=PT.Sequence
def bl(pre,post,norm=None,vocab=480,dec=True,**kw):
    t=Tokenizer(models.BPE(**kw)); t.pre_tokenizer=pre
    if norm is not None: t.normalizer=norm
    if dec: t.decoder=decoders.ByteLevel()
    tr=trainers.BpeTrainer(vocab_size=vocab,initial_alphabet=sorted(PT.ByteLevel.alphabet()),show_progress=False,special_tokens=[])
    t.train_from_iterator(lines,tr)
    if post is not None: t.post_processor=post
    return t
def specials(t,names):
    t.add_special_tokens([AddedToken(n,special=True,normalized=False) for n in names])
def odd(t):
    t.add_tokens([AddedToken("<l>",lstrip=True,normalized=False),AddedToken("<r>",rstrip=True,normalized=False),
      AddedToken("<lr>",lstrip=True,rstrip=True,normalized=False),AddedToken("word",single_word=True,normalized=False),
      AddedToken("Ångström",normalized=True),AddedToken("<longer",normalized=False),AddedToken("<longer one>",normalized=False),
      AddedToken("ÀÉ",normalized=True,single_word=True),AddedToken("  \n",normalized=False)])
    t.add_special_tokens([AddedToken("<mask>",lstrip=True,special=True,normalized=False)])
made=[]
def save(t,name):
    js=t if isinstance(t,str) else t.to_str()
    d=json.loads(js)
    made.append(name+'.json')
    open(f'{OUT}/{name}.json','w').write(json.dumps(d,ensure_ascii=False,separators=(',',':'))+'\n')
t=bl(PT.ByteLevel(add_prefix_space=False),processors.ByteLevel(trim_offsets=False)); specials(t,["<|endoftext|>"]); odd(t); save(t,'gpt2')
t=bl(PT.ByteLevel(add_prefix_space=True),None); specials(t,["<s>","</s>"]); odd(t)
t.post_processor=processors.RobertaProcessing(("</s>",t.token_to_id("</s>")),("<s>",t.token_to_id("<s>"))); save(t,'roberta')
t=bl(S([PT.Split(Regex(LL3),'isolated'),PT.ByteLevel(add_prefix_space=False,use_regex=False)]),None,ignore_merges=True)
specials(t,["<|begin_of_text|>","<|end_of_text|>","<|eot_id|>"]); odd(t)
t.post_processor=processors.Sequence([processors.ByteLevel(trim_offsets=False),processors.TemplateProcessing(single="<|begin_of_text|> $A",pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",special_tokens=[("<|begin_of_text|>",t.token_to_id("<|begin_of_text|>"))])])
save(t,'llama3')
t=bl(S([PT.Split(Regex(QW),'isolated'),PT.ByteLevel(add_prefix_space=False,use_regex=False)]),processors.ByteLevel(trim_offsets=False),norm=normalizers.NFC()); specials(t,["<|endoftext|>","<|im_start|>","<|im_end|>"]); odd(t); save(t,'qwen2')
t=bl(S([PT.Digits(individual_digits=True),PT.ByteLevel(add_prefix_space=False)]),None); specials(t,["<|endoftext|>","<|im_start|>","<|im_end|>"]); odd(t); save(t,'smollm')
t=bl(S([PT.Split(Regex(O200),'removed',invert=True),PT.ByteLevel(add_prefix_space=False,use_regex=False)]),None); specials(t,["<|endoftext|>"]); odd(t); save(t,'o200k')
t=bl(S([PT.Split(Regex(r"\p{N}{1,3}"),'isolated'),PT.Split(Regex("[一-龥\u3040-ゟ゠-ヿ]+"),'isolated'),PT.Split(Regex(DS),'isolated'),PT.ByteLevel(add_prefix_space=False,use_regex=False)]),None); specials(t,["<｜begin▁of▁sentence｜>","<｜end▁of▁sentence｜>"]); odd(t)
t.post_processor=processors.TemplateProcessing(single="<｜begin▁of▁sentence｜> $A",pair="$A $B",special_tokens=[("<｜begin▁of▁sentence｜>",t.token_to_id("<｜begin▁of▁sentence｜>"))]); save(t,'deepseek')
# sentencepiece-like
def sp(name,norm,pre,dec,post=True,fallback=True,fuse=True,unk="<unk>"):
    w=Tokenizer(models.BPE()); w.pre_tokenizer=PT.Metaspace(prepend_scheme='always')
    tr=trainers.BpeTrainer(vocab_size=300,show_progress=False,special_tokens=[],limit_alphabet=70)
    w.train_from_iterator(lines,tr)
    d=json.loads(w.to_str()); m=d['model']
    toks=["<unk>","<s>","</s>"]+(["<0x%02X>"%i for i in range(256)] if fallback else [])+[k for k,v in sorted(m['vocab'].items(),key=lambda x:x[1])]
    m.update(vocab={k:i for i,k in enumerate(toks)},unk_token=unk,byte_fallback=fallback,fuse_unk=fuse)
    d['normalizer']=norm; d['pre_tokenizer']=pre; d['decoder']=dec
    if name=='llama2': m['merges']=[a+' '+b for a,b in m['merges']]
    t=Tokenizer.from_str(json.dumps(d)); specials(t,["<unk>","<s>","</s>"]); odd(t)
    if post: t.post_processor=processors.TemplateProcessing(single="<s> $A",pair="<s> $A $B",special_tokens=[("<s>",1)])
    save(t,name)
rep={"type":"Replace","pattern":{"String":" "},"content":"▁"}
sdec={"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}
sp('llama2',{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},rep]},None,sdec)
sp('mistral',None,{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":False},sdec)
sp('metaspace',{"type":"NFKC"},{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":True},{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":True},fallback=False,fuse=False)
sp('gemma',rep,{"type":"Split","pattern":{"String":" "},"behavior":"MergedWithPrevious","invert":False},{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"}]})
sp('metanever',{"type":"Sequence","normalizers":[{"type":"Strip","strip_left":True,"strip_right":False},{"type":"Nmt"},{"type":"NFKC"},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "}]},{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":True},{"type":"Digits","individual_digits":False},{"type":"Punctuation","behavior":"Contiguous"}]},{"type":"Metaspace","replacement":"▁","prepend_scheme":"never","split":True},fallback=True,fuse=True)
# clip-like: lower case, end of word suffix
t=Tokenizer(models.BPE(unk_token="<|endoftext|>",end_of_word_suffix="</w>",continuing_subword_prefix=""))
t.normalizer=normalizers.Sequence([normalizers.NFC(),normalizers.Replace(Regex(r"\s+")," "),normalizers.Lowercase()])
t.pre_tokenizer=S([PT.Split(Regex(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"),'removed',invert=True),PT.ByteLevel(add_prefix_space=False)])
tr=trainers.BpeTrainer(vocab_size=480,initial_alphabet=sorted(PT.ByteLevel.alphabet()),show_progress=False,end_of_word_suffix="</w>",special_tokens=["<|startoftext|>","<|endoftext|>"])
t.train_from_iterator(lines,tr); t.decoder=decoders.BPEDecoder(suffix="</w>"); odd(t)
t.post_processor=processors.BertProcessing(("<|endoftext|>",t.token_to_id("<|endoftext|>")),("<|startoftext|>",t.token_to_id("<|startoftext|>")))
save(t,'clip')
# bert-like splitting with a BPE model and a continuing prefix
t=Tokenizer(models.BPE(unk_token="[UNK]",continuing_subword_prefix="##"))
t.normalizer=normalizers.Sequence([normalizers.NFD(),normalizers.Lowercase(),normalizers.StripAccents()])
t.pre_tokenizer=PT.BertPreTokenizer()
tr=trainers.BpeTrainer(vocab_size=420,limit_alphabet=90,show_progress=False,continuing_subword_prefix="##",special_tokens=["[UNK]","[CLS]","[SEP]"])
t.train_from_iterator(lines,tr); odd(t); save(t,'bert')
# without a decoder, words by Whitespace
t=Tokenizer(models.BPE(unk_token="[UNK]",fuse_unk=True)); t.normalizer=normalizers.Sequence([normalizers.NFKD(),normalizers.StripAccents(),normalizers.Strip()])
t.pre_tokenizer=S([PT.Whitespace(),PT.Split("e",'merged_with_next'),PT.Split(Regex("[aeiou]+"),'merged_with_previous')])
tr=trainers.BpeTrainer(vocab_size=400,limit_alphabet=120,show_progress=False,special_tokens=["[UNK]"])
t.train_from_iterator(lines,tr); odd(t); t.enable_truncation(40,stride=0,direction='left'); t.enable_padding(length=6,pad_id=3,pad_token="x",direction='right'); save(t,'words')

frag=["the ","cat","doesn't","DON'T","I'll","we'VE","'s","'S","'ſ","’s","'re","12","3","2048","٣٤","½","Ⅷ","²","一二三","你好","，","。","こんにちは","カタカナ","ー","안녕","한국어","مرحبا","ـ","שלום","नमस्ते","क्ष","ภาษา","Привет","Größe","naïve","e\u0301","E\u0301","\u0301","o\u0302\u0323","\u0323\u0302","Å","Å","Ångström","À","ÀÉ","A\u030angstro\u0308m","ﬁ","ﬀ","ß","ẞ","İ","ı","ǅ","Σ","ς","ῼ","K","ſ","😀","👨\u200d👩\u200d👧","👍🏽","🏳\ufe0f\u200d🌈","\u200d","\u200b","\u200c","\ufeff","\u00ad","\u180e","\u2028","\u2029","\u0085","\u00a0","\u3000","\u1680","\u202f","\x00","\x01","\x07","\x0b","\x0c","\x1b","\x7f","\x9f","\ufffd","\ufffe","\uffff","\U0010ffff","\ue000"," ","  ","   ","          ","\t","\t\t","\n","\n\n","\r\n","\r","\n ","  \n"," \n \n","<s>","</s>","<unk>","<mask>"," <mask> ","<l>"," <l>","  <l> ","<r>","<r>  ","<lr>","  <lr>\n","word","words","sword","_word"," word ","word.","<longer","<longer one>","<longer on","<|endoftext|>","<|im_start|>","<|im_end|>","<|begin_of_text|>","<|eot_id|>","<|startoftext|>","<｜begin▁of▁sentence｜>","<|","|>","<0x41>","<0x","▁","▁▁","▁the","!","?!","...","—","-","--","_","$","€","+","=","==","^","`","~","(",")","[]","{}","/","\\","\"","«»","«","¿","#","@","&","&&","%","*","**","a","b","e","E","Z","q","x","aaaa","AAAA","abcABC","camelCase","iPhone","x86","v2.0","1,000,000","3.14","http://a.b/c?d=e&f","\ud7ff","𝔸𝕓","𝟙𝟚","𐐀","𑤸","𑤸","ᾳ","한","가","각","ᄀ","ᅡ","ᆨ","゛","が","か\u3099","ﷺ","①","㍿","㋿","Ⓐ","ꟲ","\U0001e030","\u0897","\u1c89","\U00010d40","\U000105c9","\U0001f1e6\U0001f1e7","\U0001faf1","\U00031350","\U0002ebf0","\u1ccd","\U00016ea0","\u2c2f"]
def rnd_cp(r):
    k=r.random()
    if k<0.3: return chr(r.randrange(0,0x80))
    if k<0.5: return chr(r.randrange(0x80,0x600))
    while True:
        c=r.randrange(0x600,0x3400) if k<0.75 else r.randrange(0x3400,0x20000) if k<0.93 else r.randrange(0,0x110000)
        if not 0xd800<=c<0xe000: return chr(c)
def gen(r):
    n=r.choice([1,2,3,4,6,8,12,20,40])
    mode=r.random()
    out=[]
    for _ in range(n):
        k=r.random()
        if mode<0.15: out.append(rnd_cp(r))
        elif mode<0.3: out.append(r.choice([" ","\t","\n","\r","a","1",".","'","\u00a0","▁","<l>","<r>","<lr>","word"]))
        elif k<0.12: out.append(rnd_cp(r))
        else: out.append(r.choice(frag))
        if mode>0.6 and r.random()<0.4: out.append(' ')
    return ''.join(out)

texts=["","a"," ","  "," a","a ","  a  b   c    ","Hello, world!","The engine doesn't write twenty-three apples.","I'LL WE'VE you'Re don'T it'S 'tis '' '","0123456789 3.14 1,000,000 x86 ½ Ⅷ ٣٤","\n","\r\n","a\r\nb\rc\n\nd\n \n e\n\n\n","tab\tand\t\ttwo \t mixed\n\t x","          ten spaces and then          ","trailing newline\n","   \n\n   \t","\x00","a\x00b\x00\x00","\x01\x02\x1b[0m\x7f\x80\x9f","\u00a0nbsp\u00a0\u3000ideographic\u1680ogham\u2028ls\u2029ps\u0085nel\u180emvs\u200bzwsp\ufeffbom",
"Привет, мир! Как дела?","你好，世界。今天天气很好。","こんにちは世界 カタカナ゛ か\u3099が","안녕하세요 세계 각 \u1100\u1161\u11a8","مرحبا بالعالم ـ ﷺ","שלום עולם","Ελληνικά γράμματα Σίσυφος ΣΊΣΥΦΟΣ","नमस्ते दुनिया क्ष","ภาษาไทยไม่มีเว้นวรรค","ça va très bien, où es-tu?","Größe und Straße ẞ ß ſ","e\u0301te\u0301 re\u0301sume\u0301 E\u0301","o\u0302\u0323 \u0323\u0302 \u0301","Å Å A\u030a Ångström A\u030angstro\u0308m Ångström","ﬁ ﬀ ① ㍿ ㋿ Ⓐ ꟲ ᾳ ῼ K İ ı ǅ","😀😃 👍🏽 👨\u200d👩\u200d👧 🏳\ufe0f\u200d🌈 🇩🇪 🫱 \u1f6dc","𝔸𝕓 𝟙𝟚 𐐀𐐨 𑤸 \U00031350 \U0002ebf0","\ufffd\ufffe\uffff\U0010ffff\ue000","\u0897\u1c89\U00010d40\U000105c9\U00016ea0\U0001e030\u2c2f",
"<s>","</s>","<unk>","<mask>","a <mask> b","a<mask>b   <mask>","<l>","a  <l>  b","<r>","a  <r>  b","a \n <lr> \n b","<l><r><lr> <l> <r> <lr>","<r>  <l>  <lr>  <mask>","word","a word b","sword","words","word.","_word","wordword","word word","éword wordé","<longer","<longer one>","<longer on>","<longer one><longer","ÀÉ","xÀÉ","ÀÉ ÀÉ","A\u0300E\u0301","  \n","x  \ny","   \n","Ångström","<|endoftext|>","a<|endoftext|>b","<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n","<|begin_of_text|>x<|eot_id|>","<|startoftext|>a b<|endoftext|>","<｜begin▁of▁sentence｜>你好<｜end▁of▁sentence｜>","<|endoftext","<0x41>","<0x0A> <0xZZ>","▁","▁▁a▁","_a_ __b__","for (int i = 0; i < n; i++) {\n    x[i] += 1;\n}\n","def f(x):\n\treturn x ** 2  # note\n","https://example.org/path?q=1&r=%20#frag","{\"key\": [1, 2.5e-3, null]}","a@b.c, #tag; $5 €6 (7) [8] {9} <10>","!!! ??? ... --- ___ *** === ~~~ ^^^ ``` |||","camelCaseWord SCREAMING_CASE snake_case kebab-case","iPhone15Pro v2.0.1-rc3","aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","ab"*40,"lowercase UPPERCASE Title","The\nengine\nwrites\n\n\nthe red door.\n"]
r=random.Random(2024)
texts+=[gen(r)[:60] for _ in range(150-len(texts))]
J=lambda x: json.dumps(x,ensure_ascii=False,separators=(',',':'))

names = [f[:-5] for f in sorted(made)]
for d in sys.argv[1:]:
    names.append(os.path.basename(os.path.normpath(d)))
    shutil.copyfile(os.path.join(d, "tokenizer.json"), os.path.join(OUT, names[-1] + ".json"))
for n in names:
    t=Tokenizer.from_file(os.path.join(OUT, n + ".json")); rows=[]
    for s in texts:
        a=t.encode(s).ids; b=t.encode(s,add_special_tokens=False).ids
        d=t.decode(a,skip_special_tokens=False); e=t.decode(a)
        row=[s,a,None if b==a else b,None if d==s else d,None if e==d else e]
        while row[-1] is None: row.pop()
        rows.append(row)
    with open(os.path.join(OUT, n + ".golden.json"), "w") as f:
        f.write('[\n'+',\n'.join(J(x) for x in rows)+'\n]\n')
