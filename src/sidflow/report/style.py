"""The style sheet of the page: one column, tabular figures, light and dark."""

from __future__ import annotations

CSS = """
:root{
  color-scheme:light dark;
  --paper:#fbfaf7;--card:#ffffff;--ink:#1c1b1a;--soft:#6a6761;--faint:#a5a19a;--hair:#e5e1d9;
  --method:#c2410c;--best:#1f2937;--other:#a8a29e;--reference:#0f766e;--good:#15803d;--bad:#b4232a;
  --wash:#fdf1e9;
  --serif:"Iowan Old Style",Charter,"Palatino Linotype",Palatino,"Source Serif 4",Georgia,"DejaVu Serif",serif;
  --sans:Inter,ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
}
@media (prefers-color-scheme:dark){:root{
  --paper:#161514;--card:#1f1d1b;--ink:#ece8e1;--soft:#a39d94;--faint:#6f6a63;--hair:#34312d;
  --method:#fb8a4b;--best:#dcd7ce;--other:#77716a;--reference:#4fbfae;--good:#5fca82;--bad:#f28b82;--wash:#2d2119;
}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 var(--sans);
  font-variant-numeric:tabular-nums;text-rendering:optimizeLegibility}
main{max-width:1260px;margin:0 auto;padding:56px 28px 96px}
h1,h2,h3{font-family:var(--serif);font-weight:500;letter-spacing:-.012em;text-wrap:balance}
h1{font-size:clamp(30px,4.6vw,50px);line-height:1.12;margin:10px 0 18px;max-width:21em}
h1 em{color:var(--method);font-style:italic}
h2{font-size:27px;line-height:1.2;margin:0 0 20px}
h3{font-size:18px;margin:0 0 10px}
.wide+h3{margin-top:36px}
h3,p,figcaption,dd,.face.words{unicode-bidi:isolate;overflow-wrap:anywhere}
h3 small,h4 small{font:400 13px var(--sans);color:var(--soft);letter-spacing:0;margin-left:10px}
h4{font:600 12px/1 var(--sans);margin:16px 0 8px;color:var(--ink)}
h4 small{font-weight:400}
h4 small.yes{color:var(--good)}
section{margin-top:64px;padding-top:28px;border-top:1px solid var(--hair)}
.eyebrow{font-weight:600;font-size:13px;letter-spacing:.04em;margin:0;color:var(--ink)}
.eyebrow span{font-weight:400;color:var(--soft);margin-left:12px;letter-spacing:0}
.lead{font-size:18px;line-height:1.6;max-width:46em;color:var(--soft);margin:0 0 30px;text-wrap:pretty}
.lead b{color:var(--ink);font-weight:600}
.note{color:var(--soft);font-size:13.5px;max-width:60em;margin:16px 0 0;text-wrap:pretty}
.note b{color:var(--ink);font-weight:600}
.absent{color:var(--soft);font-style:italic;margin:0}
.facts{display:flex;flex-wrap:wrap;gap:14px 44px;margin:0}
.facts dd{margin:0;font:500 26px/1.1 var(--serif)}
.facts dt{color:var(--soft);font-size:13px;margin-top:4px}
.facts div{display:flex;flex-direction:column}
.wide{overflow-x:auto}
.wide th:first-child{position:sticky;left:0;z-index:1;background:var(--paper)}
.term{color:inherit;text-decoration:underline dotted var(--faint);text-underline-offset:3px}
table{border-collapse:separate;border-spacing:0;width:100%;font-size:14px}
th,td{padding:7px 12px 7px 0;text-align:right;vertical-align:middle;border-bottom:1px solid var(--hair);
  white-space:nowrap;font-weight:400}
th:first-child{text-align:left}
thead th{color:var(--soft);font-size:12.5px;vertical-align:bottom;white-space:normal;line-height:1.3}
tbody tr:last-child>*{border-bottom:0}
td small,th small{display:block;color:var(--soft);font-size:11.5px;font-weight:400;line-height:1.35}
td b{font-weight:600}
.board td.picture{width:138px;padding-right:12px}
.board td.narrow{width:114px}
.board .picture svg{width:126px}
.board th small{white-space:normal}
.board .narrow svg{width:106px}
.board .verdict{text-align:left;padding-left:10px}
.board td.verdict small{margin:3px 0 0 10px}
.board tr.method th:first-child{background:var(--paper)}
.board tr.method{background:linear-gradient(90deg,transparent,var(--wash) 12%,var(--wash) 88%,transparent)}
.who{font-weight:500}
.who.method{color:var(--method);font-weight:600}
.who.best{font-weight:600}
.who.reference{color:var(--reference)}
.chip{font-size:12px;padding:2px 9px;border-radius:99px;border:1px solid var(--hair);color:var(--soft)}
.chip.shown{color:var(--good);border-color:currentColor}
.chip.warn{font-family:var(--sans);color:var(--method);border-color:currentColor;margin-left:10px}
.chip.behind,.chip.contradicted{color:var(--bad);border-color:currentColor}
svg{display:block;width:100%;height:auto;overflow:visible;font-family:var(--sans)}
svg text{fill:var(--soft);font-size:11px}
svg .end{text-anchor:end}
svg .middle{text-anchor:middle}
svg .caption{fill:var(--ink);font-size:11.5px}
svg .name{font-size:12px;fill:var(--soft)}
svg .name.method{fill:var(--method);font-weight:600}
svg .name.best{fill:var(--ink);font-weight:600}
svg .name.reference{fill:var(--reference)}
.grid{stroke:var(--hair);stroke-width:1}
.zero{stroke:var(--faint);stroke-width:1}
.ceiling{stroke:var(--reference);stroke-width:1.4;stroke-dasharray:3 3}
.whisker{stroke:var(--ink);stroke-width:1.1;opacity:.75}
.leader{stroke:var(--hair);fill:none}
.line{fill:none;stroke:var(--other);stroke-width:1.6;stroke-linejoin:round}
.line.method{stroke:var(--method);stroke-width:2.2}.line.best{stroke:var(--best);stroke-width:2}
.line.reference{stroke:var(--reference)}
.bar{fill:var(--other)}
.bar.method{fill:var(--method)}.bar.best{fill:var(--best)}.bar.reference{fill:var(--reference);opacity:.45}
.range{stroke:var(--other);stroke-width:2}
.range.method{stroke:var(--method)}
.dot{fill:var(--other)}
.dot.method{fill:var(--method)}.dot.best{fill:var(--best)}
.dot.kept{fill:var(--paper);stroke:var(--good);stroke-width:2}
.chart{max-width:860px;margin:6px 0 18px}
.sparks{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:18px 30px}
.sparks p{margin:6px 0 0;font-size:12.5px;color:var(--soft)}
.run{margin-bottom:30px}
.run .note{margin:0 0 12px}
.heat td{text-align:center;padding:8px 2px;
  background:color-mix(in srgb,var(--method) calc(var(--heat,0)*var(--heat,0)*42%),transparent);
  border:1px solid var(--paper)}
.heat td small{font-size:10.5px;color:var(--ink)}
.heat th{padding-left:4px}
.heat thead th{text-align:center;border-bottom:0}
.heat tbody th{border-bottom:0}
.card{background:var(--card);border:1px solid var(--hair);border-radius:14px;padding:22px 24px;margin-top:20px}
.strip{display:flex;gap:10px;overflow-x:auto;padding:4px 4px 8px;align-items:flex-start}
.tile{margin:0;flex:0 0 84px;width:84px}
.face{display:block;width:84px;height:84px;border-radius:9px;background:var(--hair) center/cover no-repeat;
  box-shadow:inset 0 0 0 1px color-mix(in srgb,var(--ink) 9%,transparent)}
.face.words{font:12px/1.3 var(--serif);padding:8px;overflow:hidden;color:var(--soft);background:var(--paper)}
.tile figcaption{font-size:11px;line-height:1.3;color:var(--soft);margin-top:5px;display:-webkit-box;
  -webkit-line-clamp:2;-webkit-box-orient:vertical;overflow:hidden}
.tile.hit .face{outline:3px solid var(--good);outline-offset:1px}
.tile.hit figcaption{color:var(--good);font-weight:600}
.tile.target .face{outline:2px dashed var(--soft);outline-offset:1px}
.arrow,.earlier{align-self:start;height:84px;display:flex;align-items:center;justify-content:center;color:var(--soft)}
.arrow{font-size:24px;flex:0 0 34px}
.earlier{font-size:12px;line-height:1.3;text-align:center;flex:0 0 44px}
.item{display:grid;grid-template-columns:132px 1fr;gap:26px}
.tile.large,.tile.large .face{width:132px}
.tile.large .face{height:132px}
.views{margin:0 0 14px;display:grid;grid-template-columns:76px 1fr;gap:4px 12px;font-size:13.5px}
.views dt{color:var(--soft)}
.views dd{margin:0;max-width:62em;display:-webkit-box;-webkit-line-clamp:3;-webkit-box-orient:vertical;overflow:hidden}
.ids{display:flex;flex-wrap:wrap;gap:6px 30px}
.ids p{margin:0;display:flex;align-items:center;gap:5px}
.modality{font-size:12px;color:var(--soft);margin-right:4px}
.code{font:500 12px/1 ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace;padding:5px 8px;border-radius:6px;
  background:hsl(var(--hue) 55% 90%);color:hsl(var(--hue) 60% 24%)}
.code.suffix{background:none;color:var(--soft);border:1px solid var(--hair);padding:4px 7px}
@media (prefers-color-scheme:dark){.code{background:hsl(var(--hue) 32% 24%);color:hsl(var(--hue) 65% 84%)}}
.findings{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:20px;margin-bottom:34px}
.findings .card{margin:0}
.finding h3{display:flex;flex-wrap:wrap;gap:6px 12px;align-items:center;margin:0}
.finding .chip{font-family:var(--sans)}
.finding .over{color:var(--soft);font-size:13.5px;margin:4px 0 14px}
.finding dl{display:grid;grid-template-columns:minmax(0,auto) minmax(0,1fr);gap:5px 18px;margin:0;font-size:14px}
.finding dt{color:var(--soft);max-width:11em}
.finding dd{margin:0}
.terms{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:16px 36px;margin:0;
  font-size:13.5px}
.terms dt{font-weight:600}
.terms dd{margin:2px 0 0;color:var(--soft)}
.terms div:target{outline:1px solid var(--method);outline-offset:8px;border-radius:2px}
.thirds{display:grid;grid-template-columns:repeat(auto-fit,minmax(270px,1fr));gap:28px 44px}
.figures{display:grid;grid-template-columns:1fr auto;gap:3px 14px;margin:0;font-size:13px}
@media(min-width:900px){
  .thirds>div:last-child{grid-column:1/-1}
  .thirds>div:last-child .figures{grid-template-columns:repeat(3,1fr auto)}
}
.figures dt{color:var(--soft)}
.figures dd{margin:0;text-align:right}
@media (max-width:1280px){.board .narrow{display:none}}
@media (max-width:640px){
  main{padding:32px 16px 64px}.item{grid-template-columns:1fr}section{margin-top:44px}.card{padding:18px 16px}
  .board .picture{display:none}
  .board th:first-child{min-width:156px;max-width:156px;white-space:normal;overflow-wrap:anywhere;
    box-shadow:8px 0 8px -8px var(--faint)}
  .board .who{font-size:13px}.board td:nth-child(3){padding-left:10px}
  .chart{min-width:600px}.sparks{grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:16px 20px}
}
@media print{section{break-inside:avoid}body{background:none}}
"""
